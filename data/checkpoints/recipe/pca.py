"""Fit the principal components of mel patches (:mod:`audioldm_utils.studies.pca`) on train."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from audioldm_utils.studies.pca import MelPca
from recipe.data import load_corpus


def fit_pca(data: str | Path, folder: str | Path) -> float:
    """Fit on train without ``tune``, write ``pca.safetensors`` under ``folder``.

    Returns:
        Mean absolute error on ``tune``, nat, mean over clips.
    """
    corpus = load_corpus(data)
    fitted = MelPca.fit(corpus.log_mel(clip) for clip in np.flatnonzero(~corpus.held))
    Path(folder).mkdir(parents=True, exist_ok=True)
    fitted.save(Path(folder) / "pca.safetensors")
    errors = []
    for clip in np.flatnonzero(corpus.held):
        mel = corpus.log_mel(clip)
        made = fitted.decode(fitted.encode(mel))
        if len(made):
            errors.append(np.abs(mel[: len(made)] - made).mean())
    return float(np.mean(errors))
