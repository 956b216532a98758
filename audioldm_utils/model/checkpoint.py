"""Loading an AudioLDM2 checkpoint: the shipped ``mini``, a local folder, or a hub id.

Every checkpoint takes the same way: components are loaded one by one when they are first
needed, so that a codec run never holds a text encoder, and can be unloaded again. What the
published ``cvssp/audioldm2`` needs is mended here: its index lists ``GPT2Model`` for the
language model, which on transformers 5 lacks the generation methods that the pipeline
calls; it is loaded as ``GPT2LMHeadModel``.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from audioldm_utils import bounds
from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint_build import CLASSES, component_class, refusal
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
from audioldm_utils.model.checkpoint_tensors import check_finite, read_tensors
from audioldm_utils.model.checkpoint_weights import TIED, WeightSet
from audioldm_utils.model.mel import MelConfig
from audioldm_utils.model.offload import Offload, check_compile, check_offload
from audioldm_utils.model.vae import Network, Vae
from audioldm_utils.model.vocoder import Vocoder

if TYPE_CHECKING:
    from diffusers import AudioLDM2Pipeline, AudioLDM2UNet2DConditionModel
    from transformers import ClapModel

#: Components that only turn prompts into embeddings; unloaded once those are made.
TEXT_COMPONENTS = (
    "text_encoder",
    "text_encoder_2",
    "language_model",
    "projection_model",
    "tokenizer",
    "tokenizer_2",
)

#: Components that load without diffusers and transformers, whose import costs seconds.
OWN: dict[str, type[Network]] = {"vae": Vae, "vocoder": Vocoder}

Precision = torch.dtype | Mapping[str, torch.dtype]


def _device(name: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        UserError: networks cannot run on it, or this machine does not have it.
    """
    try:
        device = torch.device(bounds.device(str(name)))
    except ArgumentTypeError as error:
        raise UserError(f"the device {error}.") from None
    there = {
        "cuda": lambda: (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available,
    }
    if device.type != "cpu" and not there[device.type]():
        raise UserError(f"the device '{name}' is not available on this machine: give cpu")
    return device


def fast_dtype(device: str | torch.device = "cpu") -> torch.dtype:
    """The precision that is fastest there without losing range.

    Returns:
        bfloat16 on GPUs and on processors that multiply it in hardware, else float32.
    """
    device = _device(device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    found = torch.cpu.get_capabilities()
    hardware = found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16")
    return torch.bfloat16 if hardware else torch.float32


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar a component; the caller shows progress where it is worth one."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _load_published(name: str, folder: Path, weights: WeightSet | None, dtype: torch.dtype) -> Any:
    """A component by its own library; networks with what was wrong with their weights."""
    kind = component_class(name, folder)
    options: dict[str, Any] = {}
    if weights is not None:
        diffusers = hasattr(kind, "load_config")
        options = {
            "torch_dtype" if diffusers else "dtype": dtype,
            "use_safetensors": weights.format == "safetensors",
            "variant": weights.variant,
            "output_loading_info": True,
        }
        if diffusers:
            # Said beforehand, else diffusers prints a warning a network without it.
            options["low_cpu_mem_usage"] = find_spec("accelerate") is not None
    try:
        with _quiet():
            return kind.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # whatever a library makes of a stranger's files
        raise refusal(folder, kind.__name__, error) from error


def _load_own(
    kind: type[Network], folder: Path, weights: WeightSet, dtype: torch.dtype
) -> tuple[Network, dict[str, Sequence[str]]]:
    """The same for a network of :data:`OWN`."""
    try:
        with torch.device("meta"):
            network = kind(read_json(folder / "config.json"))
        tensors = read_tensors(folder, weights, dtype)
        found = network.load_state_dict(tensors, strict=False, assign=True)
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        raise refusal(folder, CLASSES[folder.name][1], error) from error
    return network, {"missing_keys": found.missing_keys, "unexpected_keys": found.unexpected_keys}


class Checkpoint:
    """One AudioLDM2 checkpoint whose components are loaded when first used.

    Attributes:
        name: ``"mini"``, the folder's name, or the hub id.
        path: its folder.
        revision: commit of a hub id, else None.
        device: where the networks are put.
        mel_config: the front end that it was trained with.
    """

    def __init__(
        self,
        location: Location,
        device: str | torch.device,
        dtype: Precision,
        offload: bool = False,
        compiled: bool = False,
    ) -> None:
        self.name = location.name
        self.path = location.path
        self.revision = location.revision
        self.device = _device(device)
        self.mel_config = MelConfig()
        self._dtype = dtype
        self._parts: dict[str, Any] = {}
        if offload:
            check_offload(self.device)
        if compiled:
            check_compile(self.device)
        self._offload = Offload(self.device) if offload else None
        self._compiled = compiled
        check_checkpoint(self.path, self.mel_config, self._half)

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

    @property
    def scaling_factor(self) -> float:
        """What VAE latents are multiplied by before diffusion, from the VAE's configuration."""
        return float(read_json(self.path / "vae" / "config.json")["scaling_factor"])

    @cached_property
    def scheduler_config(self) -> dict[str, Any]:
        """The noise schedule, with the class's defaults filled in."""
        return dict(self.part("scheduler").config)

    def dtype(self, name: str) -> torch.dtype:
        """Precision of a component: the one given for it, else float32."""
        if isinstance(self._dtype, torch.dtype):
            return self._dtype
        return self._dtype.get(name, torch.float32)

    def _half(self, name: str) -> bool:
        return self.dtype(name) != torch.float32

    def part(self, name: str) -> Any:
        """A component by its name in ``model_index.json``, loaded if it is not yet.

        Networks come in evaluation mode with frozen weights; gradients with respect to
        their inputs are still available.

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
        folder, dtype = self.path / name, self.dtype(name)
        weights = check_component(folder, self._half(name))
        if own and name in OWN:
            loaded = _load_own(OWN[name], folder, weights, dtype)
        else:
            loaded = _load_published(name, folder, weights, dtype)
        if weights is None:
            return loaded
        model, info = loaded
        missing = [key for key in info["missing_keys"] if not key.endswith(TIED)]
        if missing or info.get("mismatched_keys"):
            raise UserError(
                f"the weights of {folder} do not fit its config.json ({len(missing)} tensors are"
                f" missing, such as {missing[0] if missing else 'none'},"
                f" {len(info.get('mismatched_keys') or ())} have another shape): copy or download"
                " it again"
            )
        homeless = [key for key in info.get("unexpected_keys") or () if key.endswith(".weight")]
        homeless = [key for key in homeless if not key.endswith(TIED)]
        if homeless:
            raise UserError(
                f"the weights of {folder} do not fit its config.json ({len(homeless)} tensors have"
                f" no place in it, such as {homeless[0]}): copy or download it again"
            )
        check_finite(model, folder, dtype)
        model = model.eval().requires_grad_(False)
        if self._offload is None:
            model = model.to(self.device)
        else:
            self._offload.add(name, model)
        if self._compiled and name == "unet":  # nearly all of the time goes there
            model.compile()
        return model

    def use_channels_last(self) -> None:
        """Lay out the UNet's weights channels last, as studies do that make many samples.

        7 % to a fifth less time on a processor, but the last bits of every output differ. So
        this is not done on loading: coded files depend on those bits, and so does being equal
        to plain diffusers. It holds for all who use this checkpoint, until its UNet is unloaded.
        """
        self.unet.to(memory_format=torch.channels_last)

    def unload(self, *names: str) -> None:
        """Forget components; the memory is free once nobody else holds them."""
        for name in names:
            self._parts.pop(name, None)
            if self._offload is not None:
                self._offload.forget(name)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def pipeline(self, components: Sequence[str] = COMPONENTS, **instead: Any) -> AudioLDM2Pipeline:
        """A plain diffusers pipeline on this checkpoint's own components.

        Args:
            components: those it gets; the rest are None, which is enough for a part of its
                work (``TEXT_COMPONENTS`` suffice for ``encode_prompt``).
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
    dtype: Precision = torch.float32,
    revision: str | None = None,
    offload: bool = False,
    compiled: bool = False,
) -> Checkpoint:
    """Find a checkpoint and load some of its components.

    Args:
        checkpoint: ``"mini"``, a folder in diffusers layout, or a hub id, which may carry
            its revision as ``cvssp/audioldm2@<commit>``.
        components: loaded now; others follow on first use where the folder has them. A
            folder with a VAE and a vocoder alone is valid.
        device: torch device of the networks.
        dtype: precision of all networks, or a mapping from component to precision
            (float32 where it has none). With a half precision, ``.fp16.`` files are preferred.
        revision: of a hub id.
        offload: keep the networks in main memory and bring each to the GPU when it is called.
        compiled: compile the UNet; for a GPU and long runs.

    Raises:
        UserError: not found, not reachable, damaged, of another family or geometry.
    """
    unknown = [name for name in components if name not in COMPONENTS]
    if unknown:
        raise ValueError(f"components must be among {COMPONENTS}, got {unknown}")
    half = isinstance(dtype, torch.dtype) and dtype != torch.float32
    place = locate(checkpoint, revision, components, half)
    found = Checkpoint(place, device, dtype, offload, compiled)
    for name in components:
        found.part(name)
    return found


__all__ = [
    "COMPONENTS",
    "TEXT_COMPONENTS",
    "WEIGHTLESS",
    "Checkpoint",
    "Precision",
    "fast_dtype",
    "load",
]
