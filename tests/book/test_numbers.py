"""Every number in a sentence comes from a table by its key: none is typed, in digits or words.

Prose is what is left of Markdown cells and pages without code, mathematics, citations, links'
addresses and the values that are put in by ``{glue:text}`` and ``{{chapter:key}}``.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py")),
    *sorted((ROOT / "book" / "guides").glob("*.md")),
    ROOT / "book" / "index.md",
    *sorted((ROOT / "book" / "zh").glob("*.md")),
]

#: Phrases whose number is no result, each with the reason.
ALLOWED = {
    r"from 4 to 8 kHz|own 4 to 7 kHz": "bands that a repair works on, fixed in its code",
    r"64 bands, 100 frames a second|\(100 Hz\)|window of 64 ms": "AudioLDM2's front end",
    r"peak 0\.5|scaled to 0\.5|ln 1e-5|padded with 0": "AudioLDM2's front end",
    r"\(batch, 8, frames / 4, 16\)|longer than 10\.24 s": "its latents and training length",
    r"\| (0\.64|1\.28|2\.56) s \||blocks of 1\.28 s": "block lengths that the benchmark was given",
    r"(?<=\| )\d\.\d\d, \d\.\d\d, \d\.\d\d(?= \|)": "settings that the benchmark was given",
    r"samples of 16 bits": "a format",
    r"within 10 % of the VAE's": "a bound that was set before, as the code has it by default",
    r"\(1 is (full scale|no idea)\)|0 is perfect|\*real-time factor\* of 1": "scales",
    r"AudioLDM ?2|GPT-2|T5|ESC-\d+|MP3": "names",
    r"CC BY \d(\.\d)?|CC0": "licences",
    r"9[05] % interval|9[05] % bootstrap interval|95 % intervals": "the level, a definition",
    r"64 bands and 100 frames a second|8 channels at a quarter": "AudioLDM2's front end",
    r"1[26] kHz|44\.1 kHz|48 kHz|\b[148] kHz|delay of 5 ms": "edges of bands, settings of attacks",
    r"\(1 is right\)|Two kinds of swap|Two \*\*oracles|the first two:": "explanations, no results",
    r"Python 3\.\d+ to 3\.\d+|codec2|two a step: ": "names; a count of calls by definition",
    r"at least two clips a class": "what an analysis of classes needs",
    r"\b(19|20)\d\d\b": "years",
    r"versions? \d[\d.]*": "versions",
    r"[Ff]ull scale ±1|0 dB|0 kbit/s": "scales",
    r"[Tt]wo (one-sided tests|methods|runs|scales|intervals|of the|things|text inputs)":
        "the definition of a procedure, or a list that follows",
    r"[Oo]f two equal sounds|alike the two sound|[Tt]wo cores": "an example; the machine",
    r"(last|these) (two|three) stages|three stages": "AudioLDM2 has three stages",
    r"[两三]步|七份文档": "AudioLDM2 has three stages; the list that follows",
    r"64 个频带，每秒 100 帧|（100 Hz）|64 ms 的窗": "AudioLDM2's front end",
    r"峰值 0\.5|缩放到 0\.5|补的是 0 而不是|超过 10\.24 s": "the same, and its training length",
    r"0 表示与原声相同": "a scale",
}  # fmt: skip
WORDS = (
    r"two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
    r"sixteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|"
    r"twice|thrice|dozen"
)
NUMERALS = "两二三四五六七八九十百千万"
CHINESE = rf"(?<![第{NUMERALS}])[{NUMERALS}]+(?=\s*[个份倍种次步段条项层])"
NUMBER = re.compile(rf"\d[\d.,]*|\b(?:{WORDS})\b|{CHINESE}", re.IGNORECASE)


def prose(text: str) -> str:
    """Sentences of a Markdown text, without all that is computed or no sentence."""
    for pattern in (
        r"^(```|~~~|:::).*?^\1\s*$",
        r"\$\$.*?\$\$",
        r"\$[^$\n]*\$",
        r"\{\{[^}]*\}\}",
        r"\{[a-z:]+\}`[^`]*`",
        r"`[^`]*`",
        r"\]\([^)]*\)",
        r"^\s*\d+\.\s",
    ):
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"\s+", " ", text)


def typed_numbers(text: str) -> list[str]:
    """Numbers in a text's sentences, each with its surroundings."""
    plain = prose(text)
    for phrase in ALLOWED:
        plain = re.sub(phrase, " ", plain)
    return [
        plain[max(0, match.start() - 40) : match.end() + 30] for match in NUMBER.finditer(plain)
    ]


def markdown_of(page: Path) -> str:
    if page.suffix == ".md":
        return page.read_text(encoding="utf-8")
    cells = jupytext.read(page).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_no_number_is_typed(page):
    assert typed_numbers(markdown_of(page)) == []


def glued_by(source: str) -> list[str]:
    """A pattern for each call that glues: its key, with all that is filled in left open."""
    places = {"glue_value": 0, "glue_object": 0, "glue_table": 1}
    patterns = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in places:
            continue
        key = node.args[places[node.func.id]]
        parts = key.values if isinstance(key, ast.JoinedStr) else [key]
        texts = [part.value if isinstance(part, ast.Constant) else "{}" for part in parts]
        patterns.append(".+".join(re.escape(part) for part in "".join(texts).split("{}")))
    return patterns


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_every_key_of_a_sentence_is_glued_by_its_chapter(page):
    """Keys that a loop makes are written as f-strings and match their fixed parts."""
    keys = [
        (page.stem if page.suffix == ".py" else "", key)
        for key in re.findall(r"\{glue:text\}`([^`]+)`", markdown_of(page))
    ]
    keys += re.findall(r"\{\{([0-9]{2}[a-z0-9_]*):([^}]+)\}\}", markdown_of(page))
    for chapter, key in keys:
        source = next((ROOT / "notebooks").glob(f"{chapter}*.py")).read_text(encoding="utf-8")
        assert any(re.fullmatch(one, key) for one in glued_by(source)), f"{chapter}: {key}"


def test_keys_are_read_from_the_code():
    source = (
        "glue_value('n', 1)\nglue_table(t['a'], f'mel_{{}}_{word}', '.1f')\nglue_object(name, 2)"
    )
    assert glued_by(source) == ["n", "mel_.+_.+", ".+"]


def test_typed_numbers_are_found():
    said = "It is 3.5 dB better, or twice as good, at {glue:text}`rate` ($x = 4$, `n=5`)."
    assert len(typed_numbers(said)) == len(["3.5", "twice"])
    assert typed_numbers("AudioLDM2 has a 95 % interval {{01_a:b}}.") == []
    assert len(typed_numbers("好了三倍，共两个。AudioLDM2 分三步。")) == len(["三倍", "两个"])
