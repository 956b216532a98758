"""What a method costs: network calls, seconds, memory.

A batch of two through a network, as classifier-free guidance makes, is two calls. Hooks on the
networks count forward and backward calls apart, so that no method can forget one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from audioldm_utils.model.checkpoint import Checkpoint

#: Networks that are counted.
NETWORKS = ("unet", "vae_encoder", "vae_decoder", "vocoder")


@dataclass
class Cost:
    """What one clip cost.

    Attributes:
        forward, backward: calls of each of :data:`NETWORKS`.
        seconds: wall-clock time, loading of networks and files excluded.
        peak_memory: largest while the method ran, MiB, weights and program included: on a CPU
            the resident set of the process, sampled every 50 ms (NaN without ``/proc``); on a
            GPU the largest amount allocated there.
        memory_growth: ``peak_memory`` less what was in use at the start, MiB.
    """

    forward: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NETWORKS, 0))
    backward: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NETWORKS, 0))
    seconds: float = 0.0
    peak_memory: float = float("nan")
    memory_growth: float = float("nan")

    @property
    def unet_calls(self) -> int:
        """Forward and backward calls of the UNet: what «equal network calls» compares."""
        return self.forward["unet"] + self.backward["unet"]


def _resident() -> float:
    """Resident set of this process, MiB; NaN where it cannot be read."""
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return float("nan")


def _count(cost: Cost, name: str, module: torch.nn.Module) -> torch.utils.hooks.RemovableHandle:
    def after(_module: torch.nn.Module, _args: object, output: object) -> None:
        tensor = output if isinstance(output, torch.Tensor) else output[0]
        rows = len(tensor) if tensor.ndim > 1 else 1
        cost.forward[name] += rows

        def back(_gradient: torch.Tensor) -> None:
            cost.backward[name] += rows

        if tensor.requires_grad:
            tensor.register_hook(back)

    return module.register_forward_hook(after)


@contextmanager
def measured(checkpoint: Checkpoint, needs: tuple[str, ...]) -> Iterator[Cost]:
    """Charge everything that runs inside the block; the networks are loaded before it.

    ``needs``: the components that are watched (``vae``, ``vocoder``, ``unet``).
    """
    cost = Cost()
    watched = {name: checkpoint.part(name) for name in ("vocoder", "unet") if name in needs}
    if "vae" in needs:
        vae = checkpoint.vae
        watched |= {"vae_encoder": vae.encoder, "vae_decoder": vae.decoder}
    handles = [_count(cost, name, module) for name, module in watched.items()]
    device, cuda = checkpoint.device, checkpoint.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device) / 2**20
    seen, done = [_resident()], threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            seen.append(_resident())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    began = time.perf_counter()
    try:
        yield cost
    finally:
        if cuda:
            torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - began
        done.set()
        watcher.join()
        seen.append(_resident())
        for handle in handles:
            handle.remove()
        if cuda:
            seen = [start, torch.cuda.max_memory_allocated(device) / 2**20]
        cost.peak_memory = max(seen)
        cost.memory_growth = cost.peak_memory - seen[0]
