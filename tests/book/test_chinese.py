"""The Chinese pages: which there are, what they take from chapters, their terms and lines."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path, PurePosixPath

import jupytext
import pandas as pd
import pytest
import yaml
from docutils import nodes

from audioldm_utils.book import chinese
from audioldm_utils.book.pages import fill
from audioldm_utils.book.sphinx_chinese import is_chinese, join_lines
from audioldm_utils.studies import (
    artefacts,
    choices,
    diffusion,
    rate_claims,
    repair,
    sampling_tables,
    stage_costs,
)
from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
FOLDER = BOOK / chinese.FOLDER

#: Page to its English counterpart and the name that the seed gave it.
PAGES = {
    "index": ("book/index.md", ""),
    "complete": ("book/guides/complete.md", "项目完整使用指南.md"),
    "workflow": ("book/guides/workflow.md", "RECOMMENDED_WORKFLOW.md"),
    "conclusion": ("notebooks/08_summary.py", "FINAL_ANALYSIS_CONCLUSION.md"),
    "ddcm": ("book/guides/ddcm.md", "DDCM_PROJECT_SUMMARY.md"),
    "diffusion": ("book/guides/diffusion.md", "DIFFUSION_ANALYSIS.md"),
    "vae": ("book/guides/vae.md", "VAE_使用指南.md"),
    "vae_noise": ("book/guides/vae_noise.md", "VAE_NOISE_COMPLETE_SOLUTION.md"),
}

#: Keys of English sentences, in whose place Chinese pages take single numbers and verdicts.
SENTENCES = {"answer", "by_rate", "source", "rests", "verdict", "missed", "artefacts"}
SENTENCES |= {f"cure_{name}" for name in artefacts.MEASURES}
SENTENCES |= {"said_highfreq-side-information", "said_vae-griffinlim"}


def keys_of(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        cells = jupytext.reads(text, fmt="py:percent").cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return set(re.findall(r"\{\{([0-9]{2}[a-z0-9_]*:[^}]+)\}\}", text))


def test_the_landing_page_and_the_seven_documents_are_there():
    assert {path.stem for path in FOLDER.glob("*.md")} == set(PAGES)
    parts = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    (listed,) = (part["chapters"] for part in parts if part["caption"] == "中文")
    assert {item["file"] for item in listed} == {f"{chinese.FOLDER}/{name}" for name in PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_its_document_and_its_english_counterpart(page):
    english, name = PAGES[page]
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    assert f"`{name}`" in text or not name
    target = english.removeprefix("book/").replace(".py", ".ipynb")
    assert f"[English](../{target})" in text
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert page == "index" or f"({page}.md) |" in index
    assert f"`{name}`" in index or not name


@pytest.mark.parametrize("page", PAGES)
def test_a_page_takes_every_number_that_its_counterpart_takes(page):
    english = {key for key in keys_of(ROOT / PAGES[page][0]) if key.split(":")[1] not in SENTENCES}
    assert english <= keys_of(FOLDER / f"{page}.md")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_takes_no_english_sentence(page):
    taken = {key.split(":")[1] for key in keys_of(FOLDER / f"{page}.md")}
    assert not taken & (SENTENCES | {"by_class", "fit", "missed", "way", "worst_mistake"})


def test_the_verdicts_and_the_bottlenecks_have_chinese_words():
    assert {UPHELD, REFUTED, UNDECIDED} <= set(chinese.WORDS)
    assert chinese.said("vocoder or the VAE, which is not decided") == "声码器或 VAE（尚无定论）"
    assert chinese.said(f"K = 64: {UPHELD}; K = 2: {UNDECIDED}") == "K = 64：成立；K = 2：未决"
    assert chinese.said("vae-vocoder, sometimes") == "vae-vocoder, sometimes"
    assert chinese.said("<p>vocoder</p>") == "<p>vocoder</p>"


def rates(**words: str) -> pd.DataFrame:
    return pd.DataFrame(
        {"claim": list(words.values()), "n": [40, *[49] * (len(words) - 1)]},
        index=[f"{name[1:]} kbit/s" for name in words],
    )


def every_advice() -> list[str]:
    """What chapters can advise: what code makes of verdicts, and what it holds as it is."""
    words = (UPHELD, REFUTED, UNDECIDED)
    found = [
        module.advice({"claim_1": a, "claim_2": a, "claim_3": b, "claim_4": b})
        for module in (choices, diffusion)
        for a in words
        for b in words
    ]
    found += [sampling_tables.advice({"claim_2": word}) for word in words]
    tables = [rates(_1=a, _2=b, _5=c) for a in words for b in words for c in words]
    found += [how(table) for table in tables for how in (rate_claims.advice, rate_claims.by_range)]
    for function in (repair.repair_answer, stage_costs.ladder_answer):
        source = textwrap.dedent(inspect.getsource(function))
        found += re.findall(r'(?<=\s)"([A-Z][^"]+\.)"(?!")', source)
    for path in (ROOT / "notebooks").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "glue_value":
                name, value = (getattr(one, "value", None) for one in node.args[:2])
                if name == "advice" and isinstance(value, str):
                    found.append(value)
    return found


def test_every_advice_has_chinese_words():
    found = every_advice()
    assert len(found) > len(chinese.SENTENCES)
    names = r"kbit/s|kHz|DDCM|SDEdit|VAE|vae-\w+"
    english = {one for one in found if re.search("[A-Za-z]", re.sub(names, "", chinese.said(one)))}
    assert not english
    table = rates(_1=UPHELD, _2=UPHELD, _5=UNDECIDED)
    assert (
        chinese.said(rate_claims.by_range(table))
        == "1 和 2 kbit/s 时更好；5 kbit/s 时未决；1 kbit/s 时只有 40 个片段（共 49 个）"
    )
    assert chinese.said(rate_claims.advice(table)).startswith("在 1 和 2 kbit/s 时用 DDCM，不用")
    ranges = rate_claims.by_range(table, ["10 kbit/s"])
    assert chinese.said(ranges).endswith("（共 49 个）；10 kbit/s 时没有比较")


def test_only_chinese_pages_say_it_in_chinese():
    values = {"01_a": {"claim": UPHELD}}
    said = [
        fill("{{01_a:claim}}", PurePosixPath(page), values, {})
        for page in ("zh/index.md", "index.md", "guides/zh.md")
    ]
    assert said == ["成立", UPHELD, UPHELD]
    beside_han = fill("判定是{{01_a:claim}}。", PurePosixPath("zh/index.md"), values, {})
    assert beside_han == "判定是成立。"
    assert [is_chinese(page) for page in ("zh/index", "index", "guides/zh")] == [True, False, False]


def test_a_run_of_characters_is_found_by_its_pairs():
    assert chinese.terms("声码器 of VAE_指南") == [
        *("声", "码", "器", "声码", "码器"),
        *("of", "VAE_", "指", "南", "指南"),
    ]
    assert chinese.terms("residual-vector 3.5") == ["residual", "vector", "3", "5"]


def paragraph_of(*texts: str) -> nodes.document:
    from docutils.utils import new_document

    document = new_document("page")
    document += nodes.paragraph("", "", *map(nodes.Text, texts))
    return document


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["一句。", "\n", "又一句。"], "一句。又一句。"),
        (["一句。", "\n", "VAE 又一句。"], "一句。VAE 又一句。"),
        (["误差是", "\n", "VAE 的"], "误差是\nVAE 的"),
        (["one", "\n", "two"], "one\ntwo"),
        (["甲\n乙"], "甲\n乙"),
    ],
)
def test_a_line_end_beside_chinese_is_no_space(texts, joined):
    document = paragraph_of(*texts)
    join_lines(document)
    assert document[0].astext() == joined
