"""Models of hearing and speech; conventions as in :mod:`audioldm_utils.metrics`."""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from audioldm_utils.audio.signals import resample
from audioldm_utils.errors import UserError
from audioldm_utils.metrics.signal import NotApplicable, Samples, validate

if TYPE_CHECKING:
    from visqol import VisqolApi


@cache
def _visqol(mode: str) -> VisqolApi:
    from visqol import VisqolApi

    from audioldm_utils.metrics.visqol_svr import provide

    provide()
    api = VisqolApi()
    # Never the optional lattice: the values would depend on what is installed.
    api.create(mode=mode, use_lattice_model=False if mode == "speech" else None)
    return api


def _visqol_score(
    reference: Samples, estimate: Samples, sample_rate: int, mode: str, rate: int
) -> float:
    import numba
    import torch

    x, y = validate(reference, estimate, sample_rate)
    if len(x) < sample_rate:
        raise NotApplicable("ViSQOL needs at least 1 s")
    if not y.any():
        raise NotApplicable("the estimate is silent")
    x, y = (resample(signal, sample_rate, rate).astype(np.float64) for signal in (x, y))
    # Numba sets the OpenMP threads of the whole process, torch's too, to all cores.
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        return float(_visqol(mode).measure_from_arrays(x, y, rate).moslqo)
    finally:
        torch.set_num_threads(threads)


def visqol(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """ViSQOL, audio mode at 48 kHz: an estimated mean opinion score, 1 to 5.

    Perfection is 4.73 (it saturates there); higher is better. It aligns and levels the
    estimate by itself and is largely blind to phase, lag and gain.
    Chinen et al., QoMEX 2020.
    """
    return _visqol_score(reference, estimate, sample_rate, "audio", 48000)


def visqol_speech(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """ViSQOL, speech mode at 16 kHz with the polynomial mapping, 1 to 5; for speech only.

    Perfection is 5; higher is better. More lenient than the original program's lattice.
    """
    return _visqol_score(reference, estimate, sample_rate, "speech", 16000)


def stoi(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """Short-time objective intelligibility, about 0 to 1; for speech only.

    Perfection is 1; higher is better. It is intelligibility, not quality, and needs 0.4 s of
    speech. Taal et al., IEEE TASLP 2011.
    """
    from pystoi import stoi as pystoi

    x, y = validate(reference, estimate, sample_rate)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Not enough STFT frames", RuntimeWarning)
        value = float(pystoi(x, y, sample_rate)) if len(x) > 0.3 * sample_rate else 1e-5
    if value == 1e-5:
        raise NotApplicable("STOI needs at least 0.4 s of speech")
    return value


def pesq(reference: Samples, estimate: Samples, sample_rate: int) -> float:
    """Wideband PESQ at 16 kHz, -0.5 to 4.64; for speech only.

    Perfection is 4.64; higher is better. ITU-T P.862.2. UserError where the optional package
    ``pesq`` is not installed.
    """
    try:
        import pesq as package
    except ImportError as error:
        raise UserError(
            "PESQ needs the optional package pesq, which needs a C compiler: "
            "pip install 'audioldm-utils[speech]'."
        ) from error
    x, y = validate(reference, estimate, sample_rate)
    x, y = (resample(signal, sample_rate, 16000) for signal in (x, y))
    try:
        return float(package.pesq(16000, x, y, "wb"))
    except package.NoUtterancesError as error:
        raise NotApplicable("PESQ found no speech") from error
    except package.BufferTooShortError as error:
        raise NotApplicable("PESQ needs at least 0.25 s") from error
