"""The regression inside ViSQOL equals libsvm's."""

import importlib.resources
import sys

import numpy as np
import pytest

from audioldm_utils.errors import UserError
from audioldm_utils.metrics import visqol_svr

MODEL = importlib.resources.files("visqol") / "model" / "libsvm_nu_svr_model.txt"

# What libsvm 3.37.0 predicts for similarities that run evenly from one value to another.
GOLDEN = {
    (1.0, 1.0): 4.732101253042348,
    (0.95, 0.95): 4.543692071229324,
    (0.7, 0.7): 3.591255608841757,
    (0.0, 0.0): 1.5575247895373163,
    (1.0, 0.2): 2.2905644033845878,
}


def rows(count, seed=0):
    return np.random.default_rng(seed).uniform(0.2, 1.0, (count, 32))


def test_by_hand():
    model = visqol_svr.Regression(
        np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([2.0, -1.0]), 0.04, 0.5
    )
    np.testing.assert_allclose(model(np.zeros((1, 2))), [2 - np.exp(-1) - 0.5])


@pytest.mark.parametrize(("ends", "score"), GOLDEN.items())
def test_golden(ends, score):
    model = visqol_svr.svm_load_model(str(MODEL))
    assert float(model(np.linspace(*ends, 32)[None])[0]) == pytest.approx(score, abs=1e-9)


def test_equals_libsvm():
    svmutil = pytest.importorskip("libsvm.svmutil", reason="libsvm needs a compiler")
    features = rows(50)
    items = [{i + 1: v for i, v in enumerate(row)} for row in features.tolist()]
    theirs = svmutil.svm_load_model(str(MODEL))
    expected, _, _ = svmutil.svm_predict([0] * 50, items, theirs, "-q")
    mine = visqol_svr.svm_load_model(MODEL)
    got, _, nested = visqol_svr.svm_predict([0] * 50, items, mine, "-q")
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert nested == [[value] for value in got]


def test_another_model_is_refused(tmp_path):
    path = tmp_path / "model.txt"
    path.write_text("svm_type c_svc\nkernel_type linear\nSV\n1 1:0\n")
    with pytest.raises(UserError, match=r"model\.txt is not a libsvm regression"):
        visqol_svr.svm_load_model(path)


def test_visqol_uses_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "svmutil", raising=False)
    monkeypatch.setitem(sys.modules, "libsvm", None)
    visqol_svr.provide()
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="audio")
    noise = np.random.default_rng(1).normal(0, 0.1, 48000)
    assert api.measure_from_arrays(noise, noise, 48000).moslqo == pytest.approx(4.732, abs=0.01)
    monkeypatch.delitem(sys.modules, "svmutil")
