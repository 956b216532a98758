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
        forward: forward calls of each of :data:`NETWORKS`.
        backward: backward calls of each.
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


class _Watch(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_level = self.peak = _resident()
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.05):
            self.peak = max(self.peak, _resident())

    def finish(self) -> None:
        self._done.set()
        self.join()
        self.peak = max(self.peak, _resident())


def _first_tensor(output: object) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    return next(iter(output.values())) if isinstance(output, dict) else output[0]


@contextmanager
def measured(checkpoint: Checkpoint, needs: tuple[str, ...]) -> Iterator[Cost]:
    """Charge everything that runs inside the block; the networks are loaded before it.

    ``needs``: the components that are watched (``vae``, ``vocoder``, ``unet``).
    """
    cost = Cost()
    handles = []

    def watch(name: str, module: torch.nn.Module) -> None:
        def after(_module: torch.nn.Module, _args: object, output: object) -> None:
            tensor = _first_tensor(output)
            rows = len(tensor) if tensor.ndim > 1 else 1
            cost.forward[name] += rows
            if tensor.requires_grad:

                def back(_gradient: torch.Tensor) -> None:
                    cost.backward[name] += rows

                tensor.register_hook(back)

        handles.append(module.register_forward_hook(after))

    if "vae" in needs:
        watch("vae_encoder", checkpoint.vae.encoder)
        watch("vae_decoder", checkpoint.vae.decoder)
    for name in ("vocoder", "unet"):
        if name in needs:
            watch(name, checkpoint.part(name))
    device, cuda = checkpoint.device, checkpoint.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device) / 2**20
    watcher = _Watch()
    watcher.start()
    began = time.perf_counter()
    try:
        yield cost
    finally:
        if cuda:
            torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - began
        watcher.finish()
        for handle in handles:
            handle.remove()
        cost.peak_memory, before = watcher.peak, watcher.start_level
        if cuda:
            cost.peak_memory, before = torch.cuda.max_memory_allocated(device) / 2**20, start
        cost.memory_growth = cost.peak_memory - before
