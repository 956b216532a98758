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
    "Color mode": "明暗",
    "Light": "浅色",
    "Dark": "深色",
    "System Settings": "跟随系统",
    "Download this page": "下载本页",
    "Download source file": "下载源文件",
    "Print to PDF": "打印为 PDF",
    "Fullscreen mode": "全屏",
    "Toggle primary sidebar": "显示或隐藏导航",
    "Toggle secondary sidebar": "显示或隐藏本页目录",
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
    return _WORDS.sub(lambda match: WORDS[match[0]], value)


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
