"""The tensors of a component's weight files, and whether they are numbers."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint_weights import WeightSet, corrupt

# Of an attention layer in files that diffusers wrote before 2023.
_NEW_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAMES = re.compile(r"(?<=attentions\.0\.)(query|key|value|proj_attn)(?=\.)")


def stored_tensors(folder: Path, weights: WeightSet) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a component's files, one after another; nothing in a pickle is run.

    Raises:
        UserError: a file cannot be read.
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


def read_tensors(folder: Path, weights: WeightSet, dtype: torch.dtype) -> dict[str, Tensor]:
    """All of them in memory of their own, by today's names; numbers with a fraction as ``dtype``.

    Raises:
        UserError: a file cannot be read.
    """
    found = {}
    for name, tensor in stored_tensors(folder, weights):
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        name = _OLD_NAMES.sub(lambda old: _NEW_NAMES[old[0]], name)
        found[name] = tensor.to(kind, copy=True)
    return found


def check_finite(network: torch.nn.Module, folder: Path, dtype: torch.dtype) -> None:
    """Refuse weights that are NaN or infinite; one pass over them, without a copy.

    Raises:
        UserError: naming the first such tensor.
    """
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
