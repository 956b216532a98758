"""Players and the ABX test: files beside the page, equal loudness, addresses, alternative texts."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile as sf

from audioldm_utils.book import listening
from audioldm_utils.book.listening import Row, Take
from audioldm_utils.files import PAGE_VARIABLE

RATE = 16000


def noise(seconds=0.5, level=0.1, seed=0, rate=RATE):
    return (level * np.random.default_rng(seed).standard_normal(int(seconds * rate))).astype("f4")


def rms(x):
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def test_every_take_is_as_loud_as_the_first():
    takes = [Take("original", noise(level=0.1), RATE), Take("vae", noise(level=0.01, seed=1), RATE)]
    first, second = listening.match(takes)
    np.testing.assert_array_equal(first, takes[0].samples)
    assert rms(second) == pytest.approx(rms(first), rel=0.02)
    assert second.dtype == np.float32


def test_a_take_of_lower_rate_is_compared_in_its_own_band():
    # The original has a strong tone above the band limit, which the other cannot have.
    time = np.arange(24000) / 48000
    shared = 0.1 * np.sin(2 * np.pi * 1000 * time)
    high = 0.4 * np.sin(2 * np.pi * 15000 * time)
    original = Take("original", (shared + high).astype("f4"), 48000)
    limited = Take("band-limit", shared[::3].astype("f4"), RATE)
    _, matched = listening.match([original, limited])
    assert rms(matched) == pytest.approx(rms(limited.samples), rel=0.03)


def test_a_row_that_would_clip_is_made_softer_as_a_whole():
    spiky = np.zeros(8000, "f4")
    spiky[::800] = 0.5
    takes = [Take("original", noise(level=0.25), RATE), Take("vae", spiky, RATE)]
    first, second = listening.match(takes)
    assert max(np.abs(first).max(), np.abs(second).max()) == pytest.approx(0.99, abs=1e-3)
    assert np.corrcoef(first, takes[0].samples)[0, 1] == pytest.approx(1)
    assert rms(first) < rms(takes[0].samples)


@pytest.mark.parametrize("samples", [np.zeros(1000, "f4"), np.zeros(0, "f4")])
def test_silence_is_refused(samples):
    with pytest.raises(ValueError, match="silent"):
        listening.match([Take("original", noise(), RATE), Take("vae", samples, RATE)])


def test_nothing_to_play_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one row"):
        listening.players([], tmp_path)
    with pytest.raises(ValueError, match="at least one row"):
        listening.players([Row("clip", [])], tmp_path)
    with pytest.raises(ValueError, match="at least one pair"):
        listening.abx([], tmp_path)
    pair = ("clip", Take("a", noise(), RATE), Take("b", noise(), RATE))
    with pytest.raises(ValueError, match="trials must be 1 to 100"):
        listening.abx([pair], tmp_path, trials=0)


def make_grid(folder):
    takes = [Take("original", noise(), RATE), Take("vae", noise(seed=1), RATE, note="a < b")]
    rows = [Row("rain & wind", takes, caption="no <b>markup</b>"), Row("dog", takes[:1])]
    return listening.players(rows, folder, caption="notice x < y").data


def test_players_have_files_addresses_and_texts(tmp_path, monkeypatch):
    page = tmp_path / "notebooks"
    page.mkdir()
    monkeypatch.setenv(PAGE_VARIABLE, str(page))
    tags = Tags(make_grid(tmp_path / "results" / "01 x" / "listening"))
    sounds, pictures = tags.of("audio"), tags.of("img")
    assert len(sounds) == len(pictures) == 3
    for tag in [*sounds, *pictures]:
        assert tag["src"].startswith("../results/01%20x/listening/")
        assert (page / unquote(tag["src"])).is_file()
    samples, rate = sf.read(page / unquote(sounds[0]["src"]))
    assert rate == RATE
    assert len(samples) == 8000
    assert sounds[1]["aria-label"] == "rain & wind, VAE"
    assert pictures[1]["alt"].startswith("Spectrogram of rain & wind, VAE: 0 to 8 kHz")
    assert not tags.of("b")


def test_nothing_is_asked_of_the_network(tmp_path):
    text = make_grid(tmp_path)
    assert not re.search(r"(?:https?:)?//\w", text)
    assert "fetch(" not in text


def test_without_a_report_addresses_start_at_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.delenv(PAGE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    tags = Tags(make_grid("out/listening"))
    assert all(Path(tag["src"]).is_file() for tag in tags.of("audio"))


def test_same_sound_same_bytes(tmp_path):
    texts = [make_grid(tmp_path / name).replace(f"/{name}/", "/x/") for name in ("a", "b")]
    # The element's name is a hash of its content, addresses included.
    first, second = (re.sub(r"au-players-[0-9a-f]{10}", "ID", text) for text in texts)
    assert first == second
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert not [name for name in os.listdir(tmp_path / "a") if name.startswith(".")]


def test_spectrograms_of_a_row_share_their_scale(tmp_path):
    # Matched in loudness, a pure scaling gives the same picture.
    takes = [Take("original", noise(), RATE), Take("vae", noise() * 0.1, RATE)]
    listening.players([Row("clip", takes)], tmp_path)
    pictures = sorted(tmp_path.glob("*.webp"))
    assert len(pictures) == 2
    a, b = (np.asarray(_image(path)) for path in pictures)
    assert np.abs(a.astype(int) - b).max() <= 2


def _image(path):
    from matplotlib.image import imread

    return (imread(path) * 255).round()


def test_mp3(tmp_path):
    path = tmp_path / "a.mp3"
    listening.write_audio(path, noise(2.0), RATE)
    assert sf.info(path).format == "MP3"
    assert sf.info(path).duration == pytest.approx(2.0, abs=0.2)


def test_abx_holds_its_pairs_and_all_three_players(tmp_path):
    a, b = Take("original", noise(), RATE), Take("vae", noise(level=0.01, seed=1), RATE)
    text = listening.abx([("</script><b>", a, b)], tmp_path, trials=5).data
    tags = Tags(text)
    assert [tag["data-name"] for tag in tags.of("audio")] == ["A", "B", "X"]
    assert not [attrs for attrs in tags.of("b") if attrs]
    data = json.loads(re.search(r'class="au-data">(.*?)</script>', text)[1])
    assert data["trials"] == 5
    assert data["pairs"][0]["clip"] == "</script><b>"
    loud = [sf.read(path)[0] for path in sorted(tmp_path.glob("abx-*.flac"))]
    assert rms(loud[0]) == pytest.approx(rms(loud[1]), rel=0.02)
