"""Networks on a GPU that is too small for all of them, and compiled ones.

Offloading keeps every network in main memory and brings the one that is about to be called to
the GPU, taking the one before it away. Compiling takes a minute at the first call.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

from audioldm_utils.errors import UserError


class Offload:
    """Keeps at most one network on the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.here: str | None = None  # the network that was called last
        self._models: dict[str, torch.nn.Module] = {}

    def add(self, name: str, model: torch.nn.Module) -> None:
        """Watch a network in main memory, and its parts, which are called past it in a VAE."""
        self._models[name] = model
        for module in (model, *model.children()):
            module.register_forward_pre_hook(lambda *_: self._bring(name))

    def _bring(self, name: str) -> None:
        """Move a network to the device, and the one that was there away."""
        if self.here == name:
            return
        before = self._models.get(self.here or "")
        if before is not None:
            before.to("cpu")
        self._models[name].to(self.device)
        self.here = name

    def forget(self, name: str) -> None:
        """Stop watching a network that is unloaded."""
        self._models.pop(name, None)
        if self.here == name:
            self.here = None


def check_offload(device: torch.device) -> None:
    """Raise a UserError where there is nothing to offload from."""
    if device.type == "cpu":
        raise UserError(
            "offloading moves networks between a GPU and main memory, but the device is the cpu:"
            " leave it out, or give a GPU"
        )


def check_compile(device: torch.device) -> None:
    """Raise a UserError where the device is no GPU, or torch's compiler for it is not installed."""
    if device.type == "cpu":
        # torch.compile on a processor needs a C++ compiler, which this project asks of nobody.
        raise UserError("compiling is for GPUs, but the device is the cpu: leave it out")
    if find_spec("triton") is None:
        raise UserError(
            "compiling needs torch's compiler triton, which is not installed: install a torch"
            " build for GPUs, or leave it out"
        )
