"""The built book in headless Chromium, from file://, as a reader opens it.

The demonstration project's book is always built and opened; beside it the real one, where
``build/html`` (or the folder named by ``AUDIOLDM_UTILS_BOOK``) is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import nbformat
import pytest

from audioldm_utils.book.plotting.captions import LEGIBLE, PHONE
from audioldm_utils.book.printing import find_chromium
from audioldm_utils.errors import UserError
from tests.demo_project import ROOT, built_demo

__all__ = ["built_demo"]

pytestmark = pytest.mark.browser
REAL = Path(os.environ.get("AUDIOLDM_UTILS_BOOK", ROOT / "build" / "html"))
BOOKS = ["demonstration", *(["real"] if (REAL / "index.html").is_file() else [])]
CI = os.environ.get("CI", "").lower() in {"1", "true"}

WAIT_FOR_SOUND = """
const done = arguments[arguments.length - 1];
const sounds = [...document.querySelectorAll("audio")];
const end = Date.now() + 60000;
for (const s of sounds) s.preload = "metadata";
const look = () => {
  if (sounds.every((s) => s.readyState > 0 || s.error) || Date.now() > end)
    done(sounds.map((s) => ({src: s.src, duration: s.duration, label: s.ariaLabel})));
  else setTimeout(look, 50);
};
look();
"""

#: Bytes of a page and all that it loads before a player is started.
MOST = 4e6

FIGURES = """
return [...document.querySelectorAll("article figure, article img")].map((node) => ({
  kind: node.tagName, where: node.id || node.getAttribute("src") || node.className,
  caption: node.tagName === "FIGURE" ? (node.querySelector("figcaption")?.innerText || "") : null,
  alt: node.tagName === "IMG" ? node.alt : null,
  width: node.tagName === "IMG" ? node.naturalWidth : null,
}));
"""


def find_browser() -> tuple[str, str] | None:
    driver = shutil.which("chromedriver")
    with contextlib.suppress(UserError):
        return (find_chromium(), driver) if driver else None
    return None


@pytest.fixture(scope="module")
def browser():
    found = find_browser()
    if not found:
        reason = "no Chromium with chromedriver was found"
        if CI:
            pytest.fail(f"{reason}, and in CI this test is not to be skipped")
        pytest.skip(reason)
    selenium = (
        pytest.importorskip("selenium.webdriver")
        if not CI
        else __import__("selenium.webdriver", fromlist=["Chrome"])
    )
    options = selenium.ChromeOptions()
    options.binary_location = found[0]
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--mute-audio",
        "--autoplay-policy=no-user-gesture-required",
        "--disable-background-networking",
        "--disable-component-update",
        "--window-size=1400,1000",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    from selenium.webdriver.chrome.service import Service

    driver = selenium.Chrome(options=options, service=Service(found[1]))
    driver.set_script_timeout(90)
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=BOOKS)
def book(request):
    if request.param == "real":
        return REAL
    return request.getfixturevalue("built_demo") / "build" / "html"


def pages_of(book: Path) -> list[Path]:
    return sorted(
        p
        for p in book.rglob("*.html")
        if not {"_static", "_sources", "results"} & set(p.relative_to(book).parts)
    )


def requests_of(driver) -> tuple[list[str], list[str]]:
    """Addresses asked for since the last call, and those that failed (cancelled ones aside)."""
    asked, failed, address = [], [], {}
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        parameters = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            address[parameters["requestId"]] = parameters["request"]["url"]
            asked.append(parameters["request"]["url"])
        elif message["method"] == "Network.loadingFailed" and not parameters.get("canceled"):
            name = address.get(parameters["requestId"], "?")
            failed.append(f"{name}: {parameters['errorText']}")
    return asked, failed


def weight(addresses: list[str]) -> float:
    """Bytes of the files among addresses, each counted once."""
    paths = {Path(unquote(urlsplit(a).path)) for a in addresses if a.startswith("file:")}
    return sum(path.stat().st_size for path in paths if path.is_file())


def faults(browser, page: Path) -> list[str]:
    """All that a reader of a page would miss or that it asks for outside."""
    before = requests_of(browser)
    browser.get(page.as_uri())
    own = requests_of(browser)
    heavy = weight(own[0])
    sounds = browser.execute_async_script(WAIT_FOR_SOUND)
    figures = browser.execute_script(FIGURES)
    asked, failed = map(sum, zip(before, own, requests_of(browser), strict=True), ([], []))
    wrong = [
        f"console: {entry['message']}"
        for entry in browser.get_log("browser")
        if entry["level"] in ("SEVERE", "ERROR", "WARNING")
    ]
    wrong += [f"failed: {what}" for what in failed]
    if heavy > MOST:
        wrong.append(f"{heavy / 1e6:.1f} MB before a player starts")
    outside = [a for a in asked if not a.startswith(("file:", "data:", "blob:", "about:"))]
    wrong += [f"asked the network for {a}" for a in outside]
    wrong += [f"no duration: {s['src']}" for s in sounds if not s["duration"]]
    wrong += [f"player without a label: {s['src']}" for s in sounds if not s["label"]]
    for node in figures:
        if node["kind"] == "FIGURE" and not node["caption"].strip():
            wrong.append(f"figure without caption: {node['where']}")
        if node["kind"] == "IMG" and not (node["alt"] or "").strip():
            wrong.append(f"image without alternative text: {node['where']}")
        if node["kind"] == "IMG" and not node["width"]:
            wrong.append(f"image does not load: {node['where']}")
    return wrong


def test_every_page(browser, book):
    found = pages_of(book)
    assert found
    wrong = [f"{p.relative_to(book)}: {fault}" for p in found for fault in faults(browser, p)]
    assert not wrong, "\n".join(wrong)


def test_faults_are_found(browser, tmp_path):
    page = tmp_path / "bad.html"
    (tmp_path / "large.css").write_bytes(b" " * 4_100_000)
    page.write_text(
        "<link rel='stylesheet' href='large.css'>"
        "<article><figure id='f'><img src='gone.png'></figure><audio src='gone.flac'></audio>"
        "<script>console.error('oh')</script><script src='http://127.0.0.1:9/x.js'></script>"
        "</article>"
    )
    found = "\n".join(faults(browser, page))
    for fault in (
        '"oh"',
        "failed: http://127.0.0.1:9/x.js",
        "asked the network for http://127.0.0.1:9/x.js",
        "gone.png: net::ERR_FILE_NOT_FOUND",
        "no duration: file:///",
        "player without a label",
        "figure without caption: f",
        "image without alternative text: gone.png",
        "image does not load: gone.png",
        "4.1 MB before a player starts",
    ):
        assert fault in found, fault


class Code(HTMLParser):
    """The code cells of a page: their text, and whether each is folded."""

    def __init__(self):
        super().__init__()
        self.cells, self._open, self._within = [], [], False

    def handle_starttag(self, tag, attributes):
        classes = (dict(attributes).get("class") or "").split()
        if tag == "details":
            self._open.append("above-input" in classes)
        self._within = self._within or "cell_input" in classes
        if tag == "pre" and self._within:
            self.cells.append(("", any(self._open)))

    def handle_endtag(self, tag):
        if tag == "details":
            self._open.pop()
        self._within = self._within and tag != "pre"

    def handle_data(self, data):
        if self._within and self.cells and self.get_starttag_text():
            text, folded = self.cells[-1]
            self.cells[-1] = text + data, folded


def code_faults(page: str, notebook) -> list[str]:
    """Code cells of a notebook that a page lacks, and those that are folded or shown wrongly."""
    parser = Code()
    parser.feed(page)
    wrong = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or "injected-parameters" in cell.metadata.get("tags", ()):
            continue
        first = cell.source.strip().splitlines()[0]
        there = [folded for text, folded in parser.cells if cell.source.strip() in text]
        shown = "show-input" in cell.metadata.get("tags", ())
        if not there:
            wrong.append(f"code is not there: {first}")
        elif all(there) and shown:
            wrong.append(f"code is folded: {first}")
        elif "figure_caption(" in cell.source and not all(there):
            wrong.append(f"plotting is not folded: {first}")
    return wrong


def chapters_of(book: Path) -> list[tuple[Path, Path]]:
    """Each chapter's page and the notebook that it is made of."""
    root = book.parents[1] if (book.parents[1] / "notebooks").is_dir() else ROOT
    pages = sorted((book / "notebooks").glob("[0-9][0-9]_*.html"))
    assert pages
    return [(page, root / "notebooks" / f"{page.stem}.ipynb") for page in pages]


def test_every_code_cell_is_there_and_only_measuring_is_shown(book):
    for page, source in chapters_of(book):
        notebook = nbformat.read(source, as_version=4)
        assert not code_faults(page.read_text(), notebook), page.name


def test_a_removed_code_cell_is_found(built_demo):
    page, source = chapters_of(built_demo / "build" / "html")[0]
    notebook, text = nbformat.read(source, as_version=4), page.read_text()
    cell = next(cell for cell in notebook.cells if "plotting.style()" in cell.source)
    cell.metadata["tags"] = ["show-input"]
    assert code_faults(text, notebook) == ["code is folded: from pathlib import Path"]
    cut = re.sub(r"figure_caption", "", text)
    assert any("code is not there: axes" in fault for fault in code_faults(cut, notebook))
    opened = text.replace("above-input", "")
    assert any("plotting is not folded" in fault for fault in code_faults(opened, notebook))


SMALL = """
const small = [];
for (const image of document.querySelectorAll("article figure > img, article figure > a > img")) {
  const s = getComputedStyle(image);
  const shown = image.clientWidth - parseFloat(s.paddingLeft) - parseFloat(s.paddingRight);
  if (shown < Math.min(arguments[0], image.getAttribute("width") || Infinity))
    small.push(`${image.alt}: ${shown} px wide`);
}
for (const text of document.querySelectorAll("article svg text")) {
  const high = parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a;
  if (high < arguments[1]) small.push(`${text.textContent}: ${high.toFixed(1)} px high`);
}
return small;
"""


@pytest.fixture
def phone(browser):
    screen = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_figures_can_be_read_on_a_phone(phone, book):
    for page in [book / "index.html", *(page for page, _ in chapters_of(book))]:
        phone.get(page.as_uri())
        # Text of this height where the picture is this wide is what figures are drawn with.
        assert not phone.execute_script(SMALL, PHONE, LEGIBLE), page.name


def test_small_figures_are_found(phone, tmp_path):
    page = tmp_path / "small.html"
    page.write_text(
        "<meta name=viewport content='width=device-width'><article><figure><img alt='a' width=520 "
        "style='width:300px' src=''></figure><svg viewBox='0 0 800 20' width=400>"
        "<text y=15 font-size=16>low</text><text y=15 font-size=20>high</text></svg></article>"
    )
    phone.get(page.as_uri())
    found = phone.execute_script(SMALL, PHONE, LEGIBLE)
    assert found == ["a: 300 px wide", "low: 8.0 px high"]


def test_a_chapter_is_numbered_cited_and_handed_over(book):
    pages = chapters_of(book)
    for page, source in pages:
        text, number = page.read_text(), page.stem[:2]
        assert re.search(rf"<h1>{number} · ", text), page.name
        assert 'class="left-prev"' in text
        assert 'class="right-next"' in text
        entry = f"@incollection{{audioldm-utils-{page.stem},"
        assert entry in text
        assert f"chapter = {{{int(number)}}}" in text
        assert f'href="../_sources/notebooks/{source.name}"' in text
        tables = sorted((book / "results" / page.stem).rglob("*.csv"))
        for table in tables:
            assert f"../results/{page.stem}/{table.name}" in text, table
    for page in pages_of(book):  # the book has no public address
        assert "/edit/main/" not in page.read_text()
        assert "Report an error" not in page.read_text()


def open_demo(browser, built_demo):
    browser.get((built_demo / "build" / "html" / "notebooks" / "01_listen.html").as_uri())
    browser.execute_async_script(WAIT_FOR_SOUND)


def wait_until(driver, script, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = driver.execute_script(f"return {script}")
        if value:
            return value
        time.sleep(0.05)
    pytest.fail(f"never true: {script}")


def test_the_demonstration_shows_everything(browser, built_demo):
    open_demo(browser, built_demo)
    assert browser.execute_script("return document.querySelectorAll('audio').length") == 5
    captions = browser.execute_script(
        "return [...document.querySelectorAll('figure figcaption')].map((c) => c.innerText)"
    )
    assert any(
        "Fig. 1" in caption and "loses 2.5 dB (n = 2 clips" in caption for caption in captions
    )
    assert any("Fig. 2" in caption for caption in captions)


def test_switching_players_keeps_the_place(browser, built_demo):
    open_demo(browser, built_demo)
    sounds = "document.querySelectorAll('.au-players audio')"
    browser.execute_script(f"{sounds}[0].currentTime = 0.4")
    wait_until(browser, f"!{sounds}[0].seeking && {sounds}[0].currentTime >= 0.4")
    browser.execute_script(f"{sounds}[1].play()")
    wait_until(browser, f"{sounds}[1].currentTime >= 0.4 || {sounds}[1].ended")
    assert browser.execute_script(f"return {sounds}[0].paused")
    browser.execute_script(f"{sounds}[1].pause()")


def test_abx_runs_to_its_result(browser, built_demo):
    open_demo(browser, built_demo)
    for _ in range(2):
        browser.execute_script("document.querySelector('.au-abx [data-answer=A]').click()")
    said = wait_until(browser, "document.querySelector('.au-abx-result').innerText")
    assert "of 2 right" in said
    assert "probability" in said
    link = browser.execute_script("return document.querySelector('.au-abx-result a').href")
    assert link.startswith("blob:")
    assert browser.execute_script(
        "return document.querySelector('.au-abx [data-answer=A]').disabled"
    )


def test_search_finds_a_word_offline(browser, built_demo):
    page = built_demo / "build" / "html" / "search.html"
    browser.get(page.as_uri() + "?q=vocoder")
    wait_until(browser, "document.querySelectorAll('#search-results li a').length > 0")
    assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("瓶颈", "zh/workflow.html"),
        ("声码器", "zh/vae.html"),
        ("码本", "zh/ddcm.html"),
        ("VAE_使用指南.md", "zh/vae.html"),
        ("项目完整使用指南.md", "zh/complete.html"),
        ("DDCM_PROJECT_SUMMARY.md", "zh/ddcm.html"),
        ("VAE_NOISE_COMPLETE_SOLUTION.md", "zh/vae_noise.html"),
        ("DIFFUSION_ANALYSIS.md", "zh/diffusion.html"),
        ("FINAL_ANALYSIS_CONCLUSION.md", "zh/conclusion.html"),
        ("RECOMMENDED_WORKFLOW.md", "zh/workflow.html"),
    ],
)
def test_search_finds_a_chinese_term_offline(browser, book, query, page):
    browser.get((book / "search.html").as_uri() + "?q=" + quote(query))
    # Results come one by one.
    links = "[...document.querySelectorAll('#search-results li a')].map((a) => a.href)"
    wait_until(browser, f"{links}.some((link) => link.includes('{page}'))")
    assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]


def test_a_page_says_which_language_it_is_in(browser, book):
    pages = sorted((book / "zh").glob("*.html"))
    assert len(pages) == len(["the landing page", *range(7)])
    for page in [*pages, book / "index.html"]:
        browser.get(page.as_uri())
        lang = browser.execute_script("return document.documentElement.lang")
        assert lang == ("zh-CN" if page in pages else "en"), page
