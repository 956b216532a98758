"""One component of a checkpoint, from its files to a network that is ready."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint_build import CLASSES, component_class, refusal
from audioldm_utils.model.checkpoint_files import read_json
from audioldm_utils.model.checkpoint_tensors import check_finite, read_tensors
from audioldm_utils.model.checkpoint_weights import TIED, WeightSet
from audioldm_utils.model.vae import Network, Vae
from audioldm_utils.model.vocoder import Vocoder

#: Components that load without diffusers and transformers, whose import costs seconds.
OWN: dict[str, type[Network]] = {"vae": Vae, "vocoder": Vocoder}


def load_component(
    folder: Path, weights: WeightSet | None, dtype: torch.dtype, own: bool = True
) -> Any:
    """The component of a folder; a network is in evaluation mode, its weights are frozen.

    Args:
        weights: its files, or None for a component without.
        own: whether those of :data:`OWN` come as such, else by their published class.

    Raises:
        UserError: the library cannot make it, or its weights do not fit or are not finite.
    """
    load = _load_own if own and folder.name in OWN else _load_published
    model, info = load(folder, weights, dtype)
    if weights is None:
        return model
    _check_fit(folder, info)
    check_finite(model, folder, dtype)
    return model.eval().requires_grad_(False)


def _load_published(
    folder: Path, weights: WeightSet | None, dtype: torch.dtype
) -> tuple[Any, Mapping[str, Any]]:
    """A component by its own library, and which tensors did not fit."""
    kind = component_class(folder.name, folder)
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
            loaded = kind.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # whatever a library makes of a stranger's files
        raise refusal(folder, kind.__name__, error) from error
    return loaded if weights is not None else (loaded, {})


def _load_own(
    folder: Path, weights: WeightSet, dtype: torch.dtype
) -> tuple[Network, Mapping[str, Any]]:
    """The same for a network of :data:`OWN`."""
    tensors = read_tensors(folder, weights, dtype)
    try:
        with torch.device("meta"):
            network = OWN[folder.name](read_json(folder / "config.json"))
        found = network.load_state_dict(tensors, strict=False, assign=True)
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        raise refusal(folder, CLASSES[folder.name][1], error) from error
    return network, {"missing_keys": found.missing_keys, "unexpected_keys": found.unexpected_keys}


def _check_fit(folder: Path, info: Mapping[str, Any]) -> None:
    """Refuse weights of which some are missing, of another shape, or of no use.

    Raises:
        UserError: naming one such tensor.
    """
    missing = [key for key in info["missing_keys"] if not key.endswith(TIED)]
    other = info.get("mismatched_keys") or ()
    homeless = [key for key in info.get("unexpected_keys") or () if key.endswith(".weight")]
    homeless = [key for key in homeless if not key.endswith(TIED)]
    if missing or other:
        wrong = f"{len(missing)} tensors are missing, such as {missing[0] if missing else 'none'}"
        wrong += f", {len(other)} have another shape"
    elif homeless:
        wrong = f"{len(homeless)} tensors have no place in it, such as {homeless[0]}"
    else:
        return
    raise UserError(
        f"the weights of {folder} do not fit its config.json ({wrong}): copy or download it again"
    )


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
