"""The tensors of a component's weight files, and whether they are numbers."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint_weights import WeightSet, corrupt

# Of an attention layer in files that diffusers wrote before 2023.
_NEW_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAMES = re.compile(r"(?<=attentions\.0\.)(query|key|value|proj_attn)(?=\.)")


def read_tensors(folder: Path, weights: WeightSet) -> dict[str, Tensor]:
    """The tensors of a component's files, as stored.

    Raises:
        UserError: torch cannot read a file.
    """
    found: dict[str, Tensor] = {}
    for name in weights.files:
        if weights.format == "safetensors":
            found |= load_file(folder / name)
        else:
            found |= read_pickle(folder / name)
    return {_OLD_NAMES.sub(lambda old: _NEW_NAMES[old[0]], name): found[name] for name in found}


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.bin`` file; nothing in it is run.

    Raises:
        UserError: torch cannot read it.
    """
    mapped = zipfile.is_zipfile(path) or None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        return {str(k): v for k, v in dict(content).items() if isinstance(v, Tensor)}
    except (RuntimeError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise corrupt(path, "torch cannot read it") from error


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
