"""The shipped clips: files and manifest agree, and the script makes them again."""

import csv
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal

FOLDER = Path(__file__).resolve().parents[2] / "data" / "audio"
with (FOLDER / "manifest.csv").open(newline="") as handle:
    ROWS = {row["file"].removesuffix(".flac"): row for row in csv.DictReader(handle)}

PLAYED = {"piano", "acoustic_guitar", "strings", "flute", "drum_groove", "dense_mixture"}
SPOKEN = {"speech_english", "speech_chinese"}
FULL_BAND = {"rain", "wind", "clock", "footsteps", "log_sweep", "white_noise", "click_train"}


def samples_of(name):
    samples, rate = soundfile.read(FOLDER / f"{name}.flac", dtype="int16")
    return samples, rate


def missing_tool(name):
    if name in PLAYED:
        soundfont = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
        if not shutil.which("fluidsynth") or not soundfont.exists():
            return "FluidSynth or its soundfont FluidR3_GM"
        version = subprocess.run(["fluidsynth", "--version"], capture_output=True, text=True)
        return None if "2.3.1" in version.stdout else "FluidSynth 2.3.1"
    if name in SPOKEN:
        if not shutil.which("espeak-ng"):
            return "espeak-ng"
        version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True)
        return None if " 1.51 " in version.stdout else "espeak-ng 1.51"
    return None


def test_the_folder_holds_what_the_manifest_lists():
    assert {path.stem for path in FOLDER.glob("*.flac")} == ROWS.keys()
    assert 12 <= len(ROWS) <= 16
    assert sum(path.stat().st_size for path in FOLDER.glob("*.flac")) < 12e6


@pytest.mark.parametrize("name", ROWS)
def test_manifest_tells_the_truth(name):
    row, path = ROWS[name], FOLDER / f"{name}.flac"
    samples, rate = samples_of(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]
    assert samples.ndim == 1
    assert rate == int(row["sample_rate"]) == 48000
    assert len(samples) / rate == pytest.approx(float(row["seconds"]), abs=5e-4)
    assert 4 <= len(samples) / rate <= 10
    assert row["caption"]
    assert row["class"]
    assert row["how_made"]


@pytest.mark.parametrize("name", ROWS)
def test_level(name):
    samples, _ = samples_of(name)
    peak = 20 * np.log10(np.abs(samples.astype(float)).max() / 32768)
    assert -13 < peak <= -0.99
    assert abs(samples.astype(float).mean()) < 0.01 * np.abs(samples.astype(float)).max()


@pytest.mark.parametrize("name", ROWS)
def test_band_content_is_as_stated(name):
    samples, rate = samples_of(name)
    power = np.abs(np.fft.rfft(samples.astype(float))) ** 2
    above = power[np.fft.rfftfreq(len(samples), 1 / rate) >= 8000].sum() / power.sum()
    assert 10 * np.log10(above) == pytest.approx(float(ROWS[name]["energy_above_8k_db"]), abs=0.06)
    axis, density = signal.welch(samples.astype(float), rate, nperseg=2048)
    limit = axis[density > 1e-8 * density.max()].max()
    assert limit == pytest.approx(float(ROWS[name]["band_limit_hz"]), abs=24)
    if name in FULL_BAND:
        assert limit > 23000
    elif name in SPOKEN:
        assert 10000 < limit < 11200
        assert "11 kHz" in ROWS[name]["how_made"]
    else:
        assert limit > 10000


@pytest.fixture(scope="module")
def made_again(tmp_path_factory):
    """A folder with every clip that this machine can make, made by one run of the script."""
    folder = tmp_path_factory.mktemp("clips")
    names = [name for name in ROWS if not missing_tool(name)]
    script = FOLDER / "make_clips.py"
    subprocess.run([sys.executable, script, "--out", folder, *names], check=True)
    return folder


@pytest.mark.parametrize("name", ROWS)
def test_made_again_sample_for_sample(name, made_again):
    missing = missing_tool(name)
    if missing:
        pytest.skip(f"{missing} is not on this machine")
    again, _ = soundfile.read(made_again / f"{name}.flac", dtype="int16")
    shipped, _ = samples_of(name)
    np.testing.assert_array_equal(again, shipped)


def test_test_signals_are_what_they_say():
    clicks, rate = samples_of("click_train")
    at = np.flatnonzero(clicks)
    assert set(np.diff(at)) == {rate // 10}
    noise, _ = samples_of("white_noise")
    _, density = signal.welch(noise.astype(float), rate, nperseg=1024)
    # Fades and the window's leakage of the mean touch only the lowest bins.
    decibels = 10 * np.log10(density[2:-2])
    assert np.abs(decibels - decibels.mean()).max() < 1.5
    chord, _ = samples_of("sine_chord")
    spectrum = np.abs(np.fft.rfft(chord[3 * rate : 4 * rate] * np.hanning(rate)))
    tones = signal.find_peaks(spectrum, height=spectrum.max() / 10, distance=50)[0]
    np.testing.assert_allclose(tones, [220, 554.4, 1318.5, 2960, 6271.9, 12000], atol=1)
    sweep, _ = samples_of("log_sweep")
    for octave in (0.2, 0.5, 0.8):
        middle = int(octave * 6 * rate)
        near = sweep[middle - 2048 : middle + 2048] * np.hanning(4096)
        heard = np.abs(np.fft.rfft(near)).argmax() * rate / 4096
        assert heard == pytest.approx(20 * 1200**octave, rel=0.05, abs=12)
