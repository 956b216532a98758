"""API pages: every module of every room, and docstrings as they are written."""

import inspect

import pytest
from sphinx.ext.napoleon import GoogleDocstring

from audioldm_utils import _NAMES
from audioldm_utils.book import reference
from tests.demo_project import built_demo

__all__ = ["built_demo"]


def test_a_page_names_every_module_of_its_room(tmp_path):
    reference.write_reference(tmp_path)
    rooms = {path.parent for path in reference.PACKAGE.glob("*/__init__.py")}
    assert {path.stem for path in tmp_path.iterdir()} == {room.name for room in rooms}
    said = (tmp_path / "ddcm.md").read_text()
    for name in ("core", "codebook.greedy", "bitstream"):
        assert f".. automodule:: audioldm_utils.ddcm.{name}\n" in said


def test_stars_and_bars_mark_nothing_outside_code():
    lines = ["(batch, *shape), |cosine|, ``*x``, `|y|`"]
    reference._as_it_is(None, "", "", None, None, lines)
    assert lines == [r"(batch, \*shape), \|cosine\|, ``*x``, `|y|`"]


def test_what_stands_before_a_colon_is_no_type():
    lines = ["Samples read at once: 20 ms."]
    reference._as_it_is(None, "data", "", None, None, lines)
    found = GoogleDocstring(lines, what="data", name="CHUNK", obj=None, options=None).lines()
    assert list(filter(None, found)) == ["..", "Samples read at once: 20 ms."]


@pytest.mark.processes
def test_what_the_package_offers_is_described(built_demo):
    pages = (built_demo / "build" / "html" / "reference").glob("*.html")
    text = "\n".join(page.read_text() for page in pages)
    import audioldm_utils

    for name in _NAMES:
        found = getattr(audioldm_utils, name)
        if inspect.isroutine(found) or inspect.isclass(found):
            assert f'id="{found.__module__}.{found.__qualname__}"' in text, name
