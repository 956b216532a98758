"""Other codecs: aligned, at the input's length, with their bits told apart."""

import numpy as np
import pytest

from audioldm_utils.studies import baselines
from audioldm_utils.studies.baselines import envelope_noise, mp3, ogg_packets, opus, rice_bits


def chirp(seconds=2.0):
    t = np.arange(round(16000 * seconds)) / 16000
    return (0.3 * np.sin(2 * np.pi * (200 * t + 150 * t * t))).astype(np.float32)


def test_an_ogg_page_by_hand():
    page = b"OggS" + bytes(22) + bytes([3, 255, 10, 7]) + bytes(272)
    assert ogg_packets(page) == [265, 7]
    assert ogg_packets(page + page) == [265, 7, 265, 7]
    with pytest.raises(ValueError, match="at byte 302"):
        ogg_packets(page + b"no page")


def test_opus_tells_its_packets_from_its_container():
    coded = opus(chirp(), 16000, 1.0)
    assert coded.samples.shape == (32000,)
    assert 0 < coded.payload_bits < coded.file_bits - 8 * 200
    assert opus(chirp(), 16000, 0.9).payload_bits > 1.5 * coded.payload_bits
    fine = opus(chirp(), 16000, 0.6)
    assert np.corrcoef(fine.samples, chirp())[0, 1] > 0.9


@pytest.mark.parametrize("level", [0.99, 0.95, 0.8])
def test_mp3_is_aligned(level):
    x = chirp()
    coded = mp3(x, 16000, level)
    assert coded.samples.shape == x.shape
    lags = range(-40, 41)
    inner = slice(2000, 30000)
    best = max(lags, key=lambda lag: np.dot(np.roll(coded.samples, lag)[inner], x[inner]))
    assert abs(best) <= 20
    assert 6 < coded.file_bits / 2000 < 60


def test_a_rice_code_by_hand():
    # 0, 1 and -1 fold to 0, 1 and 2; with parameter 0 these take 1, 2 and 3 bits.
    assert rice_bits(np.array([0, 1, -1])) == 2 + 6
    # 8 folds to 15: a parameter of 3 takes 1 + 1 + 3 bits, one of 0 sixteen.
    assert rice_bits(np.array([8])) == 2 + 5
    assert rice_bits(np.array([], int)) == 2


@pytest.mark.parametrize("kind", baselines.NOISES)
def test_noise_keeps_the_levels_and_nothing_else(kind):
    x = chirp() * np.repeat([1.0, 0.1], 16000).astype(np.float32)
    coded = envelope_noise(x, 16000, kind)
    assert coded.samples.shape == x.shape
    assert coded.payload_bits == coded.file_bits
    assert coded.payload_bits % 8 == 0
    assert 20 < coded.payload_bits / 2 < 700
    inner = slice(2000, 14000), slice(18000, 30000)
    for part in inner:
        level = [20 * np.log10(np.sqrt((wave[part] ** 2).mean())) for wave in (x, coded.samples)]
        assert abs(level[0] - level[1]) < 2
    assert abs(np.corrcoef(coded.samples, x)[0, 1]) < 0.2
    other = envelope_noise(x, 16000, kind, seed=1)
    assert not np.array_equal(other.samples, coded.samples)
    assert other.payload_bits == coded.payload_bits


def test_seven_bands_follow_the_pitch_of_the_noise():
    coded = envelope_noise(chirp(), 16000, "seven bands")
    power = np.abs(np.fft.rfft(coded.samples)) ** 2
    frequency = np.fft.rfftfreq(32000, 1 / 16000)
    assert power[frequency < 1000].sum() > 0.95 * power.sum()


@pytest.mark.parametrize(("codec", "function", "levels"), baselines.SPEECH)
def test_codecs_of_speech_are_aligned_and_counted(codec, function, levels):
    if baselines.missing(codec):
        pytest.skip(f"{', '.join(baselines.missing(codec))} not installed")
    ticks = np.zeros(32000, np.float32)
    ticks[4000::8000] = 0.5
    x = (np.convolve(ticks, np.hanning(800), "same") * chirp()).astype(np.float32)
    spent = []
    for level in levels:
        coded = function(x, 16000, level)
        assert coded.samples.shape == x.shape
        envelope = [np.convolve(np.abs(wave), np.ones(400), "same") for wave in (x, coded.samples)]
        assert np.corrcoef(*envelope)[0, 1] > 0.5
        assert coded.payload_bits <= coded.file_bits
        spent.append(coded.payload_bits / 2000)
    assert spent == sorted(spent)
    assert 0.6 < spent[0] < 3


def test_programs_that_are_missing_are_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert baselines.missing("codec2") == ["c2enc", "c2dec"]
    assert baselines.missing("speex") == ["speexenc", "speexdec"]
