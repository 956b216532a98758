"""DDCM for AudioLDM2's latents: ``DDCM``, and ``DDCMScheduler`` for diffusers pipelines."""

from __future__ import annotations

import importlib

_HOMES = {
    "core": ("DDCM", "Callback", "Codes", "Step", "derived_seed"),
    "scheduler": ("DDCMScheduler",),
    "windows": ("Denoiser", "windowed"),
}


def __getattr__(name: str) -> object:
    # Files are read without torch.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
