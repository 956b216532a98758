"""The support vector regression of ViSQOL's audio mode, without libsvm.

visqol-python imports libsvm for it, which comes as C++ source only; ``make`` needs no compiler:

    score(x) = sum_i a_i exp(-gamma |x - s_i|^2) - rho

with the vectors s_i, coefficients a_i, gamma and rho of the model file that visqol-python ships.
Source: Chang and Lin, "LIBSVM", ACM TIST 2011, section 2.5.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audioldm_utils.errors import UserError


class Regression(NamedTuple):
    """A support vector regression: vectors (vectors, features), coefficients (vectors,)."""

    vectors: np.ndarray
    coefficients: np.ndarray
    gamma: float
    rho: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Predictions ``(items,)`` for features ``(items, features)``."""
        distances = ((features[:, None] - self.vectors) ** 2).sum(-1)
        return np.exp(-self.gamma * distances) @ self.coefficients - self.rho


def svm_load_model(path: str | Path) -> Regression:
    """Read a model file of libsvm; UserError if it is no regression with an RBF kernel."""
    header, _, body = Path(path).read_text().partition("\nSV\n")
    fields = dict(line.split(" ", 1) for line in header.splitlines())
    if fields.get("svm_type") not in {"nu_svr", "epsilon_svr"} or fields["kernel_type"] != "rbf":
        raise UserError(f"{path} is not a libsvm regression with an RBF kernel; use ViSQOL's own.")
    rows = [line.split() for line in body.splitlines()]
    vectors = np.array([[float(item.split(":")[1]) for item in row[1:]] for row in rows])
    coefficients = np.array([float(row[0]) for row in rows])
    return Regression(vectors, coefficients, float(fields["gamma"]), float(fields["rho"]))


def svm_predict(
    _labels: list[float], rows: list[dict[int, float]], model: Regression, _options: str = ""
) -> tuple[list[float], tuple[float, ...], list[list[float]]]:
    """Predict as libsvm's function of this name does, for the one way ViSQOL calls it.

    ``rows`` have feature number, from 1, to value. Gives the predictions; figures of accuracy, all
    NaN; the predictions again, each in a list.
    """
    width = model.vectors.shape[1]
    predictions = model(np.array([[row.get(i + 1, 0.0) for i in range(width)] for row in rows]))
    return predictions.tolist(), (np.nan,) * 3, predictions[:, None].tolist()


def provide() -> None:
    """Make visqol-python use this module; to be called before ``VisqolApi.create``.

    It looks for a top-level module ``svmutil`` before ``libsvm.svmutil``.
    """
    sys.modules["svmutil"] = sys.modules[__name__]
