"""ViSQOL, STOI and PESQ: known orders, optional parts, and how they are called."""

import subprocess
import sys
import types

import numpy as np
import pytest

from audioldm_utils import metrics
from audioldm_utils.errors import UserError
from audioldm_utils.metrics import NotApplicable
from tests.sounds import RATE, X, Y, noise, speech_like, tone


def test_visqol_ceiling_attacks_and_order():
    x = tone(440) * np.hanning(19200) + 0.3 * noise(7)
    ceiling = metrics.visqol(x, x, RATE)
    assert ceiling == pytest.approx(4.73, abs=0.01)
    assert metrics.visqol(x, -0.1 * x, RATE) == pytest.approx(ceiling, abs=0.01)
    assert metrics.visqol(x, x + noise(8, level=0.3), RATE) < ceiling - 0.5
    with pytest.raises(NotApplicable, match="at least 1 s"):
        metrics.visqol(x[:15000], x[:15000], RATE)


def test_visqol_models_are_loaded_once():
    from audioldm_utils.metrics.perception import _visqol

    assert _visqol("speech") is _visqol("speech")


def test_speech_metrics():
    x = speech_like()
    hiss = x + noise(9, 1.5)
    assert metrics.stoi(x, x, RATE) == pytest.approx(1, abs=1e-6)
    assert metrics.stoi(x, hiss, RATE) < 0.9
    assert metrics.visqol_speech(x, x, RATE) == pytest.approx(5, abs=0.01)
    assert metrics.visqol_speech(x, hiss, RATE) < 4.9
    with pytest.raises(NotApplicable, match=r"0\.4 s of speech"):
        metrics.stoi(x[:4000], x[:4000], RATE)


def test_pesq_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(UserError, match=r"audioldm-utils\[speech\]"):
        metrics.pesq(X, Y, RATE)


def test_pesq_is_called_at_16_khz_wideband_reference_first(monkeypatch):
    package = types.ModuleType("pesq")
    calls = []
    package.NoUtterancesError = type("NoUtterancesError", (Exception,), {})
    package.BufferTooShortError = type("BufferTooShortError", (Exception,), {})

    def fake(rate, reference, estimate, mode):
        calls.append((rate, len(reference), mode))
        if not estimate.any():
            raise package.NoUtterancesError
        return 4.5

    package.pesq = fake
    monkeypatch.setitem(sys.modules, "pesq", package)
    x = tone(300, rate=48000)
    assert metrics.pesq(x, x, 48000) == 4.5
    assert calls == [(16000, 19200, "wb")]
    with pytest.raises(NotApplicable, match="no speech"):
        metrics.pesq(x, 0 * x, 48000)


@pytest.mark.processes
def test_visqol_leaves_torch_its_number_of_threads():
    code = (
        "import numpy as np, torch; torch.set_num_threads(1);"
        "from audioldm_utils.metrics import visqol;"
        "x = np.random.default_rng(0).standard_normal(16000);"
        "visqol(x, 0.9 * x, 16000); assert torch.get_num_threads() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
