"""Files by what they must reach: a quality, or whatever rates a clip can pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from audioldm_utils import bounds
from audioldm_utils.ddcm.codebook.planning import RateTooLowError, find_rate
from audioldm_utils.ddcm.codec import Codec, Encoded
from audioldm_utils.ddcm.settings import Settings

#: kbit/s between which a rate is looked for.
LOWEST, HIGHEST = 0.05, 16.0


def encode_to_quality(
    codec: Codec,
    waveform: np.ndarray,
    settings: Settings,
    mel_error: float,
    **given: Any,
) -> Encoded:
    """Encode at the lowest rate that keeps the log-mel error within a bound.

    The error is the mean absolute difference, in nat, between the mel of the decoded latents
    and that of the input's own latents: what the choices lose, without what the VAE loses. It
    falls with the rate but for small steps, and so the rate is found to about a tenth.

    Args:
        codec: of the checkpoint.
        waveform: as for ``Codec.encode``.
        settings: its ``kbps`` is not looked at; its ``steps`` are the most of every trial.
        mel_error: the bound, nat, positive.
        **given: further arguments of ``Codec.encode``.

    Raises:
        UserError: the bound is out of range, or not reached at the highest rate.
    """
    bounds.MEL_ERROR.check("mel_error", mel_error)
    tried: dict[float, Encoded] = {}
    truth = None

    def distance(kbps: float) -> float:
        nonlocal truth
        try:
            found = codec.encode(waveform, replace(settings, kbps=kbps), **given)
        except RateTooLowError:
            return float("inf")  # the header alone takes more
        if truth is None:
            truth = codec.stages.decode(found.latents)
        tried[kbps] = found
        return float((codec.stages.decode(found.codes.latents) - truth).abs().mean())

    return tried[find_rate(distance, mel_error, LOWEST, HIGHEST, tolerance=0.1)]


def payable(
    codec: Codec, waveform: np.ndarray, rates: Sequence[float], settings: Settings
) -> list[tuple[float, Encoded]]:
    """The clip's files at those of the rates that pay its header and a choice.

    Args:
        codec: of the checkpoint.
        waveform: as for ``Codec.encode``.
        rates: kbit/s.
        settings: all but the rate.
    """
    found = []
    for rate in rates:
        try:
            found.append((rate, codec.encode(waveform, replace(settings, kbps=rate))))
        except RateTooLowError:
            continue
    return found
