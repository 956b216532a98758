"""One component of a checkpoint, from its files to a network that is ready."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint_files import CLASSES, component_class, read_json, refusal
from audioldm_utils.model.checkpoint_weights import TIED, WeightSet, corrupt
from audioldm_utils.model.vae import Network, Vae
from audioldm_utils.model.vocoder import Vocoder

#: Components that load without diffusers and transformers, whose import costs seconds.
OWN: dict[str, type[Network]] = {"vae": Vae, "vocoder": Vocoder}

# Of an attention layer in files that diffusers wrote before 2023.
_NEW_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAMES = re.compile(r"(?<=attentions\.0\.)(query|key|value|proj_attn)(?=\.)")


def stored_tensors(folder: Path, weights: WeightSet) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a component's files, one after another; nothing in a pickle is run.

    UserError if a file cannot be read.
    """
    for path in (folder / name for name in weights.files):
        try:
            if weights.format == "safetensors":
                with safe_open(path, framework="pt") as handle:
                    yield from ((name, handle.get_tensor(name)) for name in handle.keys())  # noqa: SIM118
                continue
            mapped = zipfile.is_zipfile(path) or None
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            found = [(str(k), v) for k, v in dict(content).items() if isinstance(v, Tensor)]
        except (
            *(RuntimeError, ValueError, TypeError, EOFError),
            *(pickle.UnpicklingError, SafetensorError),
        ) as error:
            raise corrupt(path, "torch cannot read it") from error
        yield from found


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
    if weights is None:
        return _load_published(folder)
    if own and folder.name in OWN:
        model, info = _load_own(folder, weights, dtype)
    else:
        diffusers = CLASSES[folder.name][0] == "diffusers"
        options = {
            "torch_dtype" if diffusers else "dtype": dtype,
            "use_safetensors": weights.format == "safetensors",
            "variant": weights.variant,
            "output_loading_info": True,
        }
        if diffusers:
            # Said beforehand, else diffusers prints a warning a network without it.
            options["low_cpu_mem_usage"] = find_spec("accelerate") is not None
        model, info = _load_published(folder, **options)
    _check_fit(folder, info)
    _check_finite(model, folder, dtype)
    return model.eval().requires_grad_(False)


def _load_published(folder: Path, **options: Any) -> Any:
    """A component by its own library."""
    kind = component_class(folder.name, folder)
    try:
        with _quiet():
            return kind.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # whatever a library makes of a stranger's files
        raise refusal(folder, kind.__name__, error) from error


def _load_own(
    folder: Path, weights: WeightSet, dtype: torch.dtype
) -> tuple[Network, Mapping[str, Any]]:
    """A network of :data:`OWN`, and which tensors did not fit."""
    tensors = {}
    for name, tensor in stored_tensors(folder, weights):
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        name = _OLD_NAMES.sub(lambda old: _NEW_NAMES[old[0]], name)
        tensors[name] = tensor.to(kind, copy=True)  # in memory of its own
    try:
        with torch.device("meta"):
            network = OWN[folder.name](read_json(folder / "config.json"))
        found = network.load_state_dict(tensors, strict=False, assign=True)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise refusal(folder, CLASSES[folder.name][1], error) from error
    return network, {"missing_keys": found.missing_keys, "unexpected_keys": found.unexpected_keys}


def _check_fit(folder: Path, info: Mapping[str, Any]) -> None:
    """Refuse weights of which some are missing, of another shape, or of no use (UserError)."""
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


def _check_finite(network: torch.nn.Module, folder: Path, dtype: torch.dtype) -> None:
    """Refuse weights that are NaN or infinite (UserError); one pass over them, without a copy."""
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        low, high = torch.aminmax(tensor.detach())  # both are NaN if one number is
        if not (torch.isfinite(low) and torch.isfinite(high)):
            at = "" if dtype == torch.float32 else f" as {str(dtype).removeprefix('torch.')}"
            raise UserError(
                f"the weights of {folder} hold numbers that are not finite{at} (in {name}):"
                " copy or download it again, or give another checkpoint"
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
