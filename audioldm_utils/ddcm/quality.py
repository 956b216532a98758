"""A file by the quality that it must reach."""

from __future__ import annotations

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
    codec: Codec, waveform: np.ndarray, settings: Settings, mel_error: float, **given: Any
) -> Encoded:
    """Encode at the lowest rate that keeps the log-mel error within ``mel_error`` nat.

    The error is the mean absolute difference between the mels of the decoded latents and of the
    input's own: what the choices lose, without what the VAE loses. It falls with the rate but
    for small steps, so that the rate is found to about a tenth. ``settings.kbps`` is not looked
    at; ``given`` goes to ``Codec.encode``.

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
            truth = codec.networks.decode(found.latents)
        tried[kbps] = found
        return float((codec.networks.decode(found.codes.latents) - truth).abs().mean())

    return tried[find_rate(distance, mel_error, LOWEST, HIGHEST, tolerance=0.1)]
