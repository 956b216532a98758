"""DDCM for AudioLDM2's latents: ``DDCM``, and ``DDCMScheduler`` for diffusers pipelines."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audioldm_utils.ddcm.core import DDCM, Callback, Codes, Step, derived_seed
    from audioldm_utils.ddcm.scheduler import DDCMScheduler
    from audioldm_utils.ddcm.windows import Denoiser, windowed

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


_HOMES = {"DDCMScheduler": "scheduler", "Denoiser": "windows", "windowed": "windows"}


def __getattr__(name: str) -> object:
    # Files and codebooks of this room are read without torch, the codec without diffusers.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'core')}")
    return getattr(module, name)
