"""Loading an AudioLDM2 checkpoint: the shipped ``mini``, a local folder, or a hub id.

Components are loaded one by one when they are first needed, so that a codec run never holds a
text encoder, and can be unloaded again. One thing of the published ``cvssp/audioldm2`` is
mended: its index lists ``GPT2Model``, which on transformers 5 lacks the generation that the
pipeline calls; it is loaded as ``GPT2LMHeadModel``.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from audioldm_utils import bounds
from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint_checks import check_checkpoint
from audioldm_utils.model.checkpoint_files import (
    COMPONENTS,
    WEIGHTLESS,
    Location,
    check_component,
    locate,
    read_json,
)
from audioldm_utils.model.checkpoint_fingerprint import fingerprint
from audioldm_utils.model.checkpoint_loading import OWN, load_component
from audioldm_utils.model.mel import MelConfig

if TYPE_CHECKING:
    from diffusers import AudioLDM2Pipeline, AudioLDM2UNet2DConditionModel
    from transformers import ClapModel

    from audioldm_utils.model.vae import Vae
    from audioldm_utils.model.vocoder import Vocoder

#: Components that only turn prompts into embeddings; unloaded once those are made.
TEXT_COMPONENTS = (
    *("text_encoder", "text_encoder_2", "language_model", "projection_model"),
    *("tokenizer", "tokenizer_2"),
)


def find_device(name: str | torch.device) -> torch.device:
    """The device of that name; UserError if this machine has none on which networks can run."""
    try:
        device = torch.device(bounds.device(str(name)))
    except ArgumentTypeError as error:
        raise UserError(f"the device {error}.") from None
    there = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there[device.type]:
        raise UserError(f"the device '{name}' is not available on this machine: give cpu")
    return device


def device_of_worker(name: str, number: int) -> str:
    """The device of a worker: ``cuda`` with several GPUs is one of them, workers in turn."""
    count = torch.cuda.device_count() if name == "cuda" else 0
    return f"cuda:{number % count}" if count > 1 else name


def fast_dtype(device: str | torch.device = "cpu") -> torch.dtype:
    """The fastest precision there: bfloat16 where the hardware multiplies it, else float32."""
    device = find_device(device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    found = torch.cpu.get_capabilities()
    hardware = found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16")
    return torch.bfloat16 if hardware else torch.float32


class Checkpoint:
    """One AudioLDM2 checkpoint whose components are loaded when first used.

    Attributes:
        name: ``"mini"``, the folder's name, or the hub id, then with its commit ``revision``.
    """

    def __init__(self, location: Location, device: str | torch.device, dtype: torch.dtype) -> None:
        self.name, self.path, self.revision = location.name, location.path, location.revision
        self.device = find_device(device)
        self.mel_config = MelConfig()
        self.dtype = dtype
        self._parts: dict[str, Any] = {}
        check_checkpoint(self.path, half=dtype != torch.float32)

    def __repr__(self) -> str:
        return f"Checkpoint({self.name!r}, {str(self.path)!r}, loaded={list(self._parts)})"

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the components that the folder holds."""
        return tuple(name for name in COMPONENTS if (self.path / name).is_dir())

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the components that are in memory now."""
        return tuple(self._parts)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (64 hexadecimal digits) of configurations, tensors and tokenizers."""
        return fingerprint(self.path)

    def fingerprint_of(self, parts: Sequence[str]) -> str:
        """The same of some components alone, such as ``("vae", "vocoder")``; empty for all."""
        return fingerprint(self.path, parts) if parts else self.fingerprint

    @property
    def vae(self) -> Vae:
        """Log-mel ``(batch, 1, frames, 64)`` to and from latents."""
        return self.part("vae")

    @property
    def vocoder(self) -> Vocoder:
        """Log-mel ``(batch, frames, 64)`` to waveform."""
        return self.part("vocoder")

    @property
    def unet(self) -> AudioLDM2UNet2DConditionModel:
        """The denoiser of latents ``(batch, 8, frames / 4, 16)``."""
        return self.part("unet")

    @property
    def clap(self) -> ClapModel:
        """The joint audio and text embedding (``text_encoder`` in the index)."""
        return self.part("text_encoder")

    @cached_property
    def scaling_factor(self) -> float:
        """What VAE latents are multiplied by before diffusion, from the VAE's configuration."""
        return float(read_json(self.path / "vae" / "config.json")["scaling_factor"])

    @cached_property
    def scheduler_config(self) -> dict[str, Any]:
        """The noise schedule, with the class's defaults filled in."""
        return dict(self.part("scheduler").config)

    def part(self, name: str) -> Any:
        """A component by its name in ``model_index.json``, loaded if it is not yet.

        Raises:
            UserError: the checkpoint lacks it, or its files are damaged or of another shape.
        """
        if name not in self._parts:
            if name not in COMPONENTS:
                raise ValueError(f"component must be one of {COMPONENTS}, got {name!r}")
            self._parts[name] = self._load(name)
        return self._parts[name]

    def _load(self, name: str, own: bool = True) -> Any:
        """A component; a network of :data:`OWN` by its published class unless ``own``."""
        weights = check_component(self.path / name, self.dtype != torch.float32)
        model = load_component(self.path / name, weights, self.dtype, own)
        return model if weights is None else model.to(self.device)

    def use_channels_last(self) -> None:
        """Lay out the UNet's weights channels last, until it is unloaded.

        7 % to a fifth less time on a processor, but the last bits of every output differ.
        """
        self.unet.to(memory_format=torch.channels_last)

    def unload(self, *names: str) -> None:
        """Forget components; the memory is free once nobody else holds them."""
        for name in names:
            self._parts.pop(name, None)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def pipeline(self, components: Sequence[str] = COMPONENTS, **instead: Any) -> AudioLDM2Pipeline:
        """A plain diffusers pipeline of this checkpoint.

        Args:
            components: those it gets; the rest are None.
            instead: objects to take the place of components, by their names.
        """
        from diffusers import AudioLDM2Pipeline

        parts = dict.fromkeys(COMPONENTS)
        for name in components:
            if name not in instead and name not in self.present:
                self.part(name)  # which says what is missing, in the order given
        # Those without weights first: what is wrong with a tokenizer is said in no time.
        for name in sorted(components, key=lambda name: name not in WEIGHTLESS):
            if name not in instead:
                parts[name] = self._load(name, own=False) if name in OWN else self.part(name)
        return AudioLDM2Pipeline(**(parts | instead))


def load(
    checkpoint: str | Path = "mini",
    components: Sequence[str] = ("vae", "vocoder"),
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
) -> Checkpoint:
    """Find a checkpoint and load some of its components.

    Args:
        checkpoint, revision: as in :func:`~audioldm_utils.model.checkpoint_files.locate`.
        components: loaded now; others follow on first use where the folder has them.
        dtype: of all networks; with a half precision, ``.fp16.`` files are preferred.

    Raises:
        UserError: not found, not reachable, damaged, of another family or geometry.
    """
    unknown = [name for name in components if name not in COMPONENTS]
    if unknown:
        raise ValueError(f"components must be among {COMPONENTS}, got {unknown}")
    place = locate(checkpoint, revision, components, half=dtype != torch.float32)
    found = Checkpoint(place, device, dtype)
    for name in components:
        found.part(name)
    return found
