"""What Chinese pages say: words for what chapters glue, names of buttons, terms to search for."""

from __future__ import annotations

import re

FOLDER = "zh"
"""Where the Chinese pages lie in the book."""

LANGUAGE = "zh-CN"

WORDS = {
    "vocoder or the VAE, which is not decided": "声码器或 VAE（尚无定论）",
    "vocoder": "声码器",
    "upheld": "成立",
    "refuted": "被推翻",
    "undecided": "未决",
    "times": "倍",
    "none": "无",
}
"""What chapters glue in words, to what Chinese pages say."""

_REPEATS = (
    "To repeat a generated sound, store its prompt and seed: they say as much as its indices. "
    "Store indices only where a clip chose them"
)
SENTENCES = {
    "Make sound with the fitted inverse of the mel, not with this vocoder.": (
        "用拟合的梅尔逆映射合成声音，不用这个声码器。"
    ),
    "Make sound with the checkpoint's own vocoder.": "用检查点自带的声码器合成声音。",
    "Listen to vocoder and fitted inverse on your own sound: the measures do not decide.": (
        "指标分不出高下，请用自己的声音试听，比较声码器和拟合逆映射。"
    ),
    "Restore (vae-restored), where the seconds that it takes are there.": (
        "只要时间够，就用全部修复（vae-restored）。"
    ),
    "Use the fitted inverse alone (vae-inverse), and no repair after it.": (
        "只用拟合逆映射（vae-inverse），之后不再修复。"
    ),
    "Use the fitted inverse alone (vae-inverse): more is not shown to help.": (
        "只用拟合逆映射（vae-inverse）：没有证据表明更多修复有帮助。"
    ),
    "Use the fitted inverse (vae-inverse): it gains more than all other repairs together.": (
        "用拟合逆映射（vae-inverse）：它带来的改善大于其余全部修复之和。"
    ),
    "Where sound above 8 kHz matters, add the band extension (vae-highfreq with blind=none and "
    "side_kbps=0, which leave 4 to 8 kHz as it is).": (
        "需要 8 kHz 以上的声音时，加上频带扩展（vae-highfreq，并设 blind=none、side_kbps=0，"
        "4 至 8 kHz 保持原样）。"
    ),
    "Leave the band extension off: plain noise of its envelope is nearer.": (
        "不用频带扩展：同包络的普通噪声更接近原声。"
    ),
    "The band extension is not shown to be nearer than noise of its envelope.": (
        "没有证据表明频带扩展比同包络的噪声更接近原声。"
    ),
    "Try the diffusion method that is nearest, at its cost in network calls.": (
        "试用最接近原声的那种扩散方法，代价是额外的网络调用。"
    ),
    "To bring a clip back, use the VAE alone. To vary it, use SDEdit.": (
        "要还原片段，只用 VAE。要改变片段，用 SDEdit。"
    ),
    "To bring a clip back, use the VAE alone. To vary it, use SDEdit; guidance keeps it nearer to "
    "the clip.": "要还原片段，只用 VAE。要改变片段，用 SDEdit；引导扩散更接近原声。",
    "Take independent entries where bits are dear, and shifts where time is.": (
        "比特宝贵时用独立码字，时间宝贵时用循环移位。"
    ),
    "Take cyclic shifts of one vector.": "用一个向量的循环移位。",
    "Take cyclic shifts of one vector under a mask of signs.": (
        "用一个向量的循环移位，并乘以符号掩码。"
    ),
    "Take the residual quantiser, which needs no network call: at no rate was DDCM shown to be "
    "better.": "用残差矢量量化，它不调用网络：在任何码率上都没有证据表明 DDCM 更好。",
    "not compared on these clips": "没有在这些片段上比较",
    f"{_REPEATS}, or a prompt, for a decoder that cannot have it.": (
        "要重现生成的声音，保存提示词和种子即可，与保存序号等效。只有按片段选出的序号才值得保存；解码端没有提示词时，按提示词选出的也值得。"
    ),
    f"{_REPEATS}; choosing them by a prompt is not shown to help.": (
        "要重现生成的声音，保存提示词和种子即可，与保存序号等效。只有按片段选出的序号才值得保存；没有证据表明按提示词选有帮助。"
    ),
    f"{_REPEATS}; choosing them by a prompt scores below no guidance.": (
        "要重现生成的声音，保存提示词和种子即可，与保存序号等效。只有按片段选出的序号才值得保存；按提示词选，得分低于不引导。"
    ),
    "When you quote a correlation, remove each bin's mean over time and give two nulls beside it: "
    "random indices, and noise of the clip's own levels.": (
        "报告相关系数时，先去掉各频点对时间的均值，并同时给出两种对照：随机序号，以及电平与片段相同的噪声。"
    ),
    "Use it to compare methods at the cost of a processor, and look at what it missed before "
    "carrying a finding over to another checkpoint.": (
        "用它在普通处理器上比较各种方法。把结论推广到别的检查点之前，先看它有哪些指标没有达到。"
    ),
}
"""Whole sentences of chapters, such as their advice, to what Chinese pages say."""

_RATES = "([^;]+) kbit/s"
_TAKE = "Take DDCM rather than a residual quantiser of the same latents"
#: Sentences that name rates, and what Chinese pages say with those in the same order.
_RATED = {
    re.compile(rf"better at {_RATES}"): "{} kbit/s 时更好",
    re.compile(rf"undecided at {_RATES}"): "{} kbit/s 时未决",
    re.compile(rf"worse at {_RATES}"): "{} kbit/s 时更差",
    re.compile(
        rf"at {_RATES} on (\d+) of (\d+) clips alone"
    ): "{} kbit/s 时只有 {} 个片段（共 {} 个）",
    re.compile(rf"not compared at {_RATES}"): "{} kbit/s 时没有比较",
    re.compile(rf"{_TAKE} at {_RATES}"): "在 {} kbit/s 时用 DDCM，不用同一潜变量的残差矢量量化",
    re.compile(rf"{_TAKE} at {_RATES}\."): "在 {} kbit/s 时用 DDCM，不用同一潜变量的残差矢量量化。",
    re.compile(
        rf"at {_RATES} it was not shown to be better than a residual quantiser\."
    ): "在 {} kbit/s 时没有证据表明它优于残差矢量量化。",
}

INTERFACE = {
    "Contents": "本页目录",
    "On this page": "本页目录",
    "Search": "搜索",
    "Home": "首页",
    "previous": "上一页",
    "previous page": "上一页",
    "next": "下一页",
    "next page": "下一页",
    "Back to top": "回到顶部",
    "Skip to main content": "跳到正文",
    "Color mode": "明暗模式",
    "Light": "浅色",
    "Dark": "深色",
    "System Settings": "跟随系统",
    "Download this page": "下载本页",
    "Download source file": "下载源文件",
    "Print to PDF": "打印为 PDF",
    "Edit this page": "编辑本页",
    "Report an error": "报告错误",
    "Link to this heading": "本节链接",
    "Section Navigation": "章节导航",
    "Site navigation": "全书导航",
}
"""Names of the theme's buttons."""

_WORDS = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, WORDS))})(?![\w-])")
#: Chinese characters as a class of a pattern, for Python and JavaScript alike.
HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECE = re.compile(rf"[{HAN}]+|[^\W{HAN}]+")


def said(value: str) -> str:
    """What a chapter glued, as a Chinese page says it; figures and players stay as they are."""
    if value.lstrip().startswith("<"):
        return value
    if value in SENTENCES:
        return SENTENCES[value]
    parts = [_with_rates(part) for part in value.split("; ")]
    if None not in parts:
        return "；".join(parts)
    found = _WORDS.sub(lambda match: WORDS[match[0]], value)
    return value if found == value else found.replace("; ", "；").replace(": ", "：")


def _with_rates(part: str) -> str | None:
    for pattern, chinese in _RATED.items():
        if match := pattern.fullmatch(part):
            rates = [one.replace(", ", "、").replace(" and ", " 和 ") for one in match.groups()]
            return chinese.format(*rates)
    return None


def terms(text: str) -> list[str]:
    """The words of a text as the search index holds them.

    A run of Chinese characters becomes each of them and each pair of neighbours.
    """
    found = []
    for piece in _PIECE.findall(text):
        if re.match(f"[{HAN}]", piece):
            found += [*piece, *(piece[i : i + 2] for i in range(len(piece) - 1))]
        else:
            found.append(piece)
    return found
