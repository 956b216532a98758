"""The registry of recordings and fetching from it, against a server on this machine."""

import csv
import functools
import hashlib
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioldm_utils.audio import recordings
from audioldm_utils.cli.main import main
from audioldm_utils.errors import UserError

OPEN = {"Public Domain", "CC0", "CC BY 3.0", "CC BY 4.0"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """A folder that is served, its address, and a function that stops the serving."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=folder)
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()

    def stop():
        running.shutdown()
        running.server_close()

    yield folder, f"http://127.0.0.1:{running.server_port}", stop
    stop()


def row(name, url, path, start=1.0, length=2.0):
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    texts = ["a tone", "electronic", "Tone", "Nobody", "https://example.org/tone", "CC0"]
    return [name, *texts, "https://example.org/cc0", url, sha256, start, length]


def write_registry(path, rows):
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([recordings.COLUMNS, *rows])
    return path


@pytest.fixture
def tone(server, tmp_path):
    """A registry with one stereo recording of 4 s, its samples, and the server."""
    folder, address, stop = server
    samples = np.stack([np.arange(32000) / 40000, -np.arange(32000) / 40000], axis=1)
    soundfile.write(folder / "the tone.flac", samples, 8000)
    entry = row("tone", f"{address}/the%20tone.flac", folder / "the tone.flac")
    return write_registry(tmp_path / "registry.csv", [entry]), samples, stop


def test_shipped_registry_is_complete_and_openly_licensed():
    registry = recordings.read_registry()
    assert len(registry) >= 8
    for entry in registry.values():
        assert entry.licence in OPEN
        assert all((entry.caption, entry.category, entry.title, entry.author))
        assert all(
            link.startswith("https://") for link in (entry.url, entry.origin, entry.licence_url)
        )
    assert len({entry.sha256 for entry in registry.values()}) == len(registry)


def test_shipped_checksums_are_those_that_librosa_publishes():
    from importlib.resources import files

    lines = (files("librosa") / "util" / "example_data" / "registry.txt").read_text().split("\n")
    published = dict(line.split() for line in lines if line)
    for entry in recordings.read_registry().values():
        assert published[entry.file] == entry.sha256


def test_folder_of_excerpts(tone, tmp_path):
    registry, samples, stop = tone
    (path,) = recordings.make_folder(tmp_path / "out", cache=tmp_path / "cache", registry=registry)
    got, rate = soundfile.read(path)
    assert rate == 8000
    np.testing.assert_allclose(got, samples[8000:24000], atol=1 / 32768)
    (line,) = csv.DictReader((tmp_path / "out" / "manifest.csv").open())
    assert line["file"] == "tone.flac"
    assert line["class"] == "electronic"
    assert line["licence"] == "CC0"
    assert line["author"] == "Nobody"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["manifest.csv", "tone.flac"]
    # What is in the cache needs no network.
    stop()
    again = recordings.make_folder(tmp_path / "two", cache=tmp_path / "cache", registry=registry)
    assert again[0].read_bytes() == path.read_bytes()


def test_a_folder_that_somebody_filled_is_left_alone(tone, tmp_path, capsys):
    """Said before anything is fetched."""
    registry, _, stop = tone
    stop()
    out = tmp_path / "out"
    out.mkdir()
    for name, text in (("manifest.csv", "file,caption\n"), ("song.flac", "mine")):
        (out / name).write_text(text)
        words = ["recordings", "--out", out, "--cache", tmp_path / "c", "--registry", registry]
        assert main([str(word) for word in words]) == 2
        assert "is not empty and was not written by" in capsys.readouterr().err
        assert (out / name).read_text() == text
        (out / name).unlink()
    assert not (tmp_path / "c").exists()


def test_other_names_come_beside_those_that_are_there(server, tmp_path):
    folder, address, _ = server
    soundfile.write(folder / "tone.wav", np.full(32000, 0.5), 8000)
    entries = [row(name, f"{address}/tone.wav", folder / "tone.wav") for name in ("one", "two")]
    registry = write_registry(tmp_path / "r.csv", entries)

    def make(name):
        recordings.make_folder(tmp_path / "out", [name], tmp_path / "cache", registry)
        listed = csv.DictReader((tmp_path / "out" / "manifest.csv").open())
        return [line["file"] for line in listed]

    assert make("one") == ["one.flac"]
    assert make("two") == ["one.flac", "two.flac"]
    assert make("one") == ["one.flac", "two.flac"]


def test_excerpt_ends_where_the_file_ends(server, tmp_path):
    folder, address, _ = server
    soundfile.write(folder / "short.wav", np.full(4000, 0.5), 8000)
    entry = row("short", f"{address}/short.wav", folder / "short.wav", start=0.25, length=60)
    registry = write_registry(tmp_path / "r.csv", [entry])
    (path,) = recordings.make_folder(tmp_path / "out", cache=tmp_path / "c", registry=registry)
    assert soundfile.info(path).frames == 2000


def test_excerpt_beyond_the_end_is_refused(server, tmp_path):
    folder, address, _ = server
    soundfile.write(folder / "short.wav", np.full(4000, 0.5), 8000)
    entry = row("short", f"{address}/short.wav", folder / "short.wav", start=3)
    registry = write_registry(tmp_path / "r.csv", [entry])
    with pytest.raises(UserError, match=r"ends after 0\.5 s, before the excerpt at 3 s"):
        recordings.make_folder(tmp_path / "out", cache=tmp_path / "c", registry=registry)
    assert not (tmp_path / "out").exists()


def test_offline_is_one_sentence_and_exit_2(tone, tmp_path, capsys):
    registry, _, stop = tone
    stop()
    arguments = ["recordings", "--out", tmp_path / "out", "--cache", tmp_path / "c"]
    assert main([str(a) for a in [*arguments, "--registry", registry]]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("audioldm-utils: error: http://127.0.0.1:")
    assert "cannot be reached for recording 'tone'; connect to the network, or put" in said
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


def test_a_file_put_into_the_cache_by_hand_serves(tone, tmp_path):
    registry, _, stop = tone
    stop()
    entry = recordings.read_registry(registry)["tone"]
    cache = tmp_path / "cache"
    cache.mkdir()
    served = tmp_path / "served" / "the tone.flac"
    with pytest.raises(UserError) as refused:
        recordings.fetch(entry, cache)
    target = Path(str(refused.value).split("by hand as ")[1].split(" and run again")[0])
    target.write_bytes(served.read_bytes())
    assert recordings.fetch(entry, cache) == target


def test_another_file_at_the_address_is_refused_and_not_kept(tone, tmp_path):
    registry, _, _ = tone
    (tmp_path / "served" / "the tone.flac").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"gives another file .* nothing was kept"):
        recordings.make_folder(tmp_path / "out", cache=tmp_path / "c", registry=registry)
    assert list((tmp_path / "c").iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_corrupt_cache_is_fetched_anew(tone, tmp_path):
    registry, _, _ = tone
    entry = recordings.read_registry(registry)["tone"]
    path = recordings.fetch(entry, tmp_path / "c")
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert recordings.fetch(entry, tmp_path / "c").read_bytes() == whole


def test_missing_file_names_the_answer(tone, tmp_path):
    registry, _, _ = tone
    (tmp_path / "served" / "the tone.flac").unlink()
    with pytest.raises(UserError, match=r"answers 404 File not found for recording 'tone'"):
        recordings.make_folder(tmp_path / "out", cache=tmp_path / "c", registry=registry)


def test_unknown_name(tmp_path):
    with pytest.raises(UserError, match="no recording is called 'brams'; there are brahms, "):
        recordings.make_folder(tmp_path, ["brams"])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("sha256", "abc", "sha256 must be 64 hexadecimal digits"),
        ("start_s", "soon", "start_s must be a number from 0 to 86400, not 'soon'"),
        ("start_s", "inf", "start_s must be a number"),
        ("length_s", "0", "length_s must be a number"),
        ("length_s", "nan", "length_s must be a number"),
        ("length_s", "1e9", "length_s must be a number"),
        ("length_s", "", "length_s must be a number"),
        ("name", "../tone", "must be letters, digits, - and _"),
    ],
)
def test_wrong_registry_entries_are_refused(tone, tmp_path, column, value, message):
    registry, _, _ = tone
    (entry,) = csv.DictReader(registry.open())
    entry[column] = value
    wrong = write_registry(tmp_path / "wrong.csv", [[entry[c] for c in recordings.COLUMNS]])
    with pytest.raises(UserError, match=message):
        recordings.read_registry(wrong)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name\n" + b'"' + b"x" * 200_000, b"\0"])
def test_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "r.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"r\.csv (is no CSV table|lacks the columns)"):
        recordings.read_registry(path)


def test_rows_that_are_cut_short_are_refused(tone):
    registry, _, _ = tone
    text = registry.read_text().splitlines()
    registry.write_text("\n".join([text[0], text[1].split(",")[0]]))
    with pytest.raises(UserError, match=r"start_s must be a number .* not ''; mend it"):
        recordings.read_registry(registry)


def test_registry_that_is_missing_twice_named_or_lacks_columns(tone, tmp_path):
    registry, _, _ = tone
    with pytest.raises(UserError, match=r"none\.csv does not exist"):
        recordings.read_registry(tmp_path / "none.csv")
    rows = list(csv.reader(registry.open()))[1:]
    with pytest.raises(UserError, match="names a recording twice"):
        recordings.read_registry(write_registry(tmp_path / "twice.csv", rows * 2))
    (tmp_path / "few.csv").write_text("name,url\n")
    with pytest.raises(UserError, match="lacks the columns author, caption"):
        recordings.read_registry(tmp_path / "few.csv")


def test_command_lists_without_network(capsys):
    assert main(["recordings"]) == 0
    listed = capsys.readouterr().out
    for entry in recordings.read_registry().values():
        assert entry.name in listed
        assert entry.licence in listed


def test_command_wants_a_folder(capsys):
    assert main(["recordings", "brahms"]) == 2
    assert "--out is missing; say where 'brahms' shall be written" in capsys.readouterr().err
