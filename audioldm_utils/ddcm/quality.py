"""A file by the quality that it must reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from audioldm_utils import bounds
from audioldm_utils.ddcm.codec import Codec, Encoded
from audioldm_utils.ddcm.placement import RateTooLowError
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.errors import UserError

#: kbit/s between which a rate is looked for.
LOWEST, HIGHEST = 0.05, 16.0


def find_rate(
    distance: Callable[[float], float], target: float, low: float, high: float, tolerance: float
) -> float:
    """The lowest rate from ``low`` to ``high``, kbit/s, whose distance reaches ``target``.

    ``distance`` must fall with the rate; ``tolerance`` is relative, of the rate. UserError where
    the target is not reached at the highest rate.
    """
    if distance(low) <= target:
        return low
    reached = distance(high)
    if reached > target:
        raise UserError(
            f"the target {target:g} is not reached: {reached:g} at {high:g} kbit/s, the highest "
            "rate searched."
        )
    while high / low > 1 + tolerance:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if distance(middle) <= target else (middle, high)
    return high


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
