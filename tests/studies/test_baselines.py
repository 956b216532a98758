"""Other codecs: aligned, at the input's length, with their bits told apart."""

import numpy as np
import pytest

from audioldm_utils.studies.baselines import mp3, ogg_packets, opus


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
