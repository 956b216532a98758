"""The registry of metrics, and all that apply to a pair at once."""

import pytest

from audioldm_utils import metrics
from audioldm_utils.errors import UserError
from audioldm_utils.metrics import BANDS, REGISTRY
from tests.sounds import RATE, X, Y


def test_registry_is_complete():
    from audioldm_utils.results.tables import UNITS

    for name, metric in REGISTRY.items():
        assert metric.unit in UNITS
        assert metric.better in ("higher", "lower", "zero", "one")
        assert metric.description
        assert "\n" not in metric.description
        assert "erfection" in metric.function.__doc__ or name == "log_mel_nat"


def test_evaluate_pair():
    names = ["snr", "band_energy_error", "log_spectral_distance@4-8 kHz", "hf_retention"]
    scores = metrics.evaluate_pair(X, Y, RATE, names)
    keys = [(score.metric, score.band) for score in scores]
    bands = [band for band in BANDS if band != "8-16 kHz"]
    assert keys == [
        ("snr", ""),
        *(("band_energy_error", band) for band in bands),
        ("log_spectral_distance", "4-8 kHz"),
        ("hf_retention", ""),
    ]
    assert scores[0] == metrics.Score("snr", "", metrics.snr(X, Y, RATE), "dB")


def test_default_names_depend_on_the_class():
    plain, speech = metrics.default_names("rain"), metrics.default_names("speech_english")
    assert "visqol" in plain
    assert "stoi" not in plain
    assert {"stoi", "visqol_speech"} <= set(speech)
    assert plain == metrics.default_names()


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match=r"unknown metric 'sdr'; the metrics are snr, "):
        metrics.evaluate_pair(X, Y, RATE, ["sdr"])
    with pytest.raises(UserError, match="bands are"):
        metrics.evaluate_pair(X, Y, RATE, ["snr@4-8 kHz"])
    with pytest.raises(UserError, match="bands are"):
        metrics.evaluate_pair(X, Y, RATE, ["band_energy_bias@1-9 kHz"])


def test_short_clips_keep_what_applies():
    scores = metrics.evaluate_pair(
        X[:1600], Y[:1600], RATE, ["visqol", "multi_resolution_stft", "mae"]
    )
    assert [score.metric for score in scores] == ["mae"]
