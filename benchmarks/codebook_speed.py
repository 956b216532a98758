"""Seconds and memory of one step's choice: cyclic shifts beside the paper's way.

    python benchmarks/codebook_speed.py [--out book/evidence/codebook_speed.csv]
        [--unet data/checkpoints/mini] [--published]

Everything runs on one thread, in one process, in turn. Time is the processor time of the
process, so that other work on the machine does not count (wall time beside it); the median of
the repetitions. Memory is the growth of the resident set's high-water mark over what the
process held before (Linux: /proc/self/clear_refs), for a loop of sampling steps; plain
sampling's own is the row «plain sampling».
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from audioldm_utils.ddcm.codebook import CyclicShift, Gaussian, MatchingPursuit, Turbo
from audioldm_utils.ddcm.codebook.base import Codebook
from audioldm_utils.files import atomic_path, atomic_write
from audioldm_utils.results.evidence import provenance

SHAPE = (8, 256, 16)
VALUES = 32768


def timed(action: Callable[[int], object], repeats: int) -> tuple[float, float]:
    """Median processor and wall seconds of ``action(i)``, after one call that warms up."""
    action(0)
    used, wall = [], []
    for i in range(1, repeats + 1):
        start, clock = time.process_time(), time.perf_counter()
        action(i)
        used.append(time.process_time() - start)
        wall.append(time.perf_counter() - clock)
    return statistics.median(used), statistics.median(wall)


def high_water() -> float:
    """MiB; the largest resident set since it was last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def extra_memory(action: Callable[[], object]) -> float:
    """MiB by which ``action`` raises the high-water mark, measured in a child process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        Path("/proc/self/clear_refs").write_text("5")
        before = high_water()
        action()
        os.write(writer, f"{high_water() - before}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        grown = float(pipe.read())
    os.waitpid(child, 0)
    return grown


def steps_with(book: Codebook, steps: int, atoms: int) -> Callable[[], None]:
    """A loop of sampling steps without the network: choose, make the noise, add it."""

    def loop() -> None:
        x = torch.zeros(1, *SHAPE)
        target = torch.from_numpy(np.random.default_rng(0).standard_normal((1, *SHAPE))).float()
        for step in range(steps):
            choice = book.choose(step, target - x, atoms)
            x = 0.99 * x + 0.1 * book.noise(step, choice)

    return loop


def plain(steps: int) -> Callable[[], None]:
    """The same loop with drawn noise: plain sampling."""

    def loop() -> None:
        generator = np.random.default_rng(0)
        x = torch.zeros(1, *SHAPE)
        target = torch.from_numpy(generator.standard_normal((1, *SHAPE))).float()
        for _ in range(steps):
            x = 0.99 * x + 0.1 * torch.from_numpy(generator.standard_normal((1, *SHAPE))).float()
            target - x

    return loop


def resident(size: int) -> tuple[Callable[[], torch.Tensor], Callable[[torch.Tensor], object]]:
    """The paper's way: all K x N normal values of a step drawn and held, one product."""
    residual = torch.randn(VALUES, generator=torch.Generator().manual_seed(0))

    def draw() -> torch.Tensor:
        return torch.randn(size, VALUES, generator=torch.Generator().manual_seed(1))

    return draw, lambda atoms: (atoms @ residual).argmax()


def network_seconds(name: str, folder: str | None, repeats: int) -> tuple[str, float, float]:
    """Seconds of one UNet call for 10.24 s, batch 1: a trained folder, or the published size."""
    from diffusers import AudioLDM2UNet2DConditionModel

    if folder is not None:
        unet = AudioLDM2UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    else:
        unet = AudioLDM2UNet2DConditionModel(
            sample_size=None,
            in_channels=8,
            out_channels=8,
            block_out_channels=(128, 256, 384, 640),
            attention_head_dim=8,
            cross_attention_dim=((None, 768, 1024),) * 4,
        )
    unet.eval().float()
    widths = next(
        tuple(w for w in widths if w is not None)
        for widths in unet.config.cross_attention_dim
        if isinstance(widths, (tuple, list))
    )
    states = [torch.randn(1, 8, width) for width in widths]
    x = torch.randn(1, *SHAPE)

    @torch.inference_mode()
    def call(_: int) -> object:
        return unet(
            x,
            torch.tensor(500),
            encoder_hidden_states=states[0],
            encoder_hidden_states_1=states[1] if len(states) > 1 else None,
        )

    used, wall = timed(call, repeats)
    return name, used, wall


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/codebook_speed.csv"))
    parser.add_argument("--unet", help="checkpoint folder whose UNet is timed beside")
    parser.add_argument("--published", action="store_true", help="time the published size, too")
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []

    def add(what: str, quantity: str, value: float, unit: str) -> None:
        rows.append({"what": what, "quantity": quantity, "value": round(value, 6), "unit": unit})
        print(f"{what:58s} {quantity:22s} {value:10.4f} {unit}", flush=True)

    residual = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    books: dict[str, tuple[Codebook, int, int]] = {
        "cyclic, 65,536 atoms, 16 bits": (CyclicShift(SHAPE), 1, args.repeats),
        "cyclic, 4 bases, 18 bits": (CyclicShift(SHAPE, bases=4), 1, args.repeats),
        "cyclic, 16 bases, 20 bits": (CyclicShift(SHAPE, bases=16), 1, 5),
        "cyclic, 8 atoms, 128 bits": (CyclicShift(SHAPE), 8, args.repeats),
        "cyclic, 32 atoms, 512 bits": (CyclicShift(SHAPE), 32, 5),
        "independent in chunks, K=1024": (Gaussian(SHAPE, size=1024), 1, 3),
        "Turbo-style, K=16384, M=30": (Turbo(SHAPE, size=16384), 30, 1),
        "matching pursuit, K=1024, M=4, C=3": (MatchingPursuit(SHAPE), 4, 1),
    }
    for title, (book, atoms, repeats) in books.items():
        used, wall = timed(lambda i, b=book, a=atoms: b.choose(i, residual, a), repeats)
        add(title, "choose, processor", 1e3 * used, "ms")
        add(title, "choose, wall", 1e3 * wall, "ms")
        choice = book.choose(0, residual, atoms)
        used, _ = timed(lambda i, b=book, c=choice: b.noise(i, c), repeats)
        add(title, "make noise, processor", 1e3 * used, "ms")
    draw, pick = resident(1024)
    used, wall = timed(lambda i: draw(), 3)
    add("the paper's way, K=1024 resident", "draw, processor", 1e3 * used, "ms")
    held = [draw()]
    used, wall = timed(lambda i: pick(held[0]), 5)
    add("the paper's way, K=1024 resident", "choose, processor", 1e3 * used, "ms")
    held.clear()

    if Path("/proc/self/clear_refs").exists():
        base = extra_memory(plain(4))
        add("plain sampling, 4 steps", "memory", base, "MB")
        loops: dict[str, Callable[[], object]] = {
            "cyclic, 4 steps": steps_with(CyclicShift(SHAPE), 4, 1),
            "cyclic, 200 steps": steps_with(CyclicShift(SHAPE), 200, 1),
            "cyclic, 16 bases, 4 steps": steps_with(CyclicShift(SHAPE, bases=16), 4, 1),
            "cyclic, 32 atoms, 4 steps": steps_with(CyclicShift(SHAPE), 4, 32),
            "independent in chunks, K=64, 2 steps": steps_with(Gaussian(SHAPE, size=64), 2, 1),
            "independent in chunks, K=1024, 2 steps": steps_with(Gaussian(SHAPE, size=1024), 2, 1),
            "Turbo-style, K=16384, M=30, 1 step": steps_with(Turbo(SHAPE, size=16384), 1, 30),
            "the paper's way, K=1024 resident": lambda: pick(draw()),
        }
        for title, loop in loops.items():
            add(title, "memory over plain", extra_memory(loop) - base, "MB")

    choose = next(r["value"] for r in rows if r["quantity"] == "choose, processor")
    networks = [("mini", args.unet)] if args.unet else []
    networks += [("published size, random weights", None)] if args.published else []
    for name, folder in networks:
        name, used, wall = network_seconds(name, folder, 3)
        add(f"UNet step, 10.24 s, {name}", "processor", 1e3 * used, "ms")
        add(f"UNet step, 10.24 s, {name}", "wall", 1e3 * wall, "ms")
        add(f"choice over UNet step, {name}", "share", choose / (10 * used), "%")

    with atomic_path(args.out) as path, path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=["what", "quantity", "value", "unit"])
        writer.writeheader()
        writer.writerows(rows)
    record = provenance("python " + " ".join(sys.argv), note="one thread; N = 32,768; batch 1")
    atomic_write(args.out.with_suffix(".json"), json.dumps(record, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
