"""DDCM for AudioLDM2's latents: ``DDCM``, and ``DDCMScheduler`` for diffusers pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audioldm_utils.ddcm.core import DDCM, Callback, Codes, Step, derived_seed
from audioldm_utils.ddcm.windows import Denoiser, windowed

if TYPE_CHECKING:
    from audioldm_utils.ddcm.scheduler import DDCMScheduler

__all__ = [
    "DDCM",
    "Callback",
    "Codes",
    "DDCMScheduler",
    "Denoiser",
    "Step",
    "derived_seed",
    "windowed",
]


def __getattr__(name: str) -> object:
    if name == "DDCMScheduler":  # diffusers takes seconds to import; the codec does without
        from audioldm_utils.ddcm.scheduler import DDCMScheduler

        return DDCMScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
