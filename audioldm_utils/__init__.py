"""AudioLDM2 reconstruction, its losses and repairs, and DDCM compression.

The names in ``__all__`` are what most users need; each is imported when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: What each name is: ``module:attribute`` under ``audioldm_utils``.
_NAMES = {
    "METHODS": "methods.registry:METHODS",
    "Codec": "ddcm.codec:Codec",
    "DDCMScheduler": "ddcm.scheduler:DDCMScheduler",
    "Networks": "model.networks:Networks",
    "Settings": "ddcm.settings:Settings",
    "decode": "ddcm.codec:decode",
    "encode": "ddcm.codec:encode",
    "evaluate": "metrics:evaluate_pair",
    "generate": "model.generation:generate",
    "load": "model.checkpoint:load",
    "load_clip": "audio.clips:load_clip",
    "reconstruct": "methods.registry:reconstruct",
    "save": "audio.clips:save",
}
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _NAMES[name].split(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
