"""Cost of DDCM beside the network: seconds a step and memory.

    python benchmarks/ddcm_step.py --checkpoint mini
    python benchmarks/ddcm_step.py --published          # random weights at the published size
    python benchmarks/ddcm_step.py --memory-only

Times one UNet step, choosing one atom of 65,536 (cyclic shifts) and making its noise again,
and, in the same run, the paper's way: K = 1024 independent atoms, drawn each step and held
as a K x N matrix. Memory is the peak of a fresh process that samples with an oracle in the
place of the network, with DDCM minus without, over T and K. Seconds are CPU seconds of the
process, so that other work on the machine does not count; set OMP_NUM_THREADS=1 for one core.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch

from audioldm_utils.ddcm import DDCM
from audioldm_utils.ddcm.codebook import make, start_noise
from audioldm_utils.model.schedule import Schedule, training_alphas_bar

CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
}


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of ``repeats`` runs after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return median(times)


def published_unet() -> torch.nn.Module:
    """The UNet of ``cvssp/audioldm2`` with random weights."""
    from diffusers import AudioLDM2UNet2DConditionModel

    blocks = ("DownBlock2D", *("CrossAttnDownBlock2D",) * 3)
    with torch.device("meta"):  # its own initialisation would take longer than the benchmark
        unet = AudioLDM2UNet2DConditionModel(
            sample_size=(256, 16),
            in_channels=8,
            out_channels=8,
            block_out_channels=(128, 256, 384, 640),
            attention_head_dim=(4, 8, 12, 20),
            down_block_types=blocks,
            up_block_types=tuple(block.replace("Down", "Up") for block in reversed(blocks)),
            cross_attention_dim=((None, 768, 1024),) * 4,
        )
    unet = unet.to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in unet.parameters():
        parameter.uniform_(-0.02, 0.02)
    return unet


def unet_step(args: argparse.Namespace, shape: tuple[int, int, int]) -> Callable[[], object]:
    """One network call of a 10.24 s clip without guidance."""
    if args.published:
        unet = published_unet()
    else:
        from audioldm_utils.model.checkpoint import load

        unet = load(args.checkpoint, ("unet",)).unet
    widths = unet.config.cross_attention_dim[0]
    x, t5 = torch.randn(1, *shape), torch.randn(1, 12, widths[2])
    gpt2 = torch.randn(1, 8, widths[1])

    def step() -> object:
        with torch.no_grad():
            return unet(
                x,
                500,
                encoder_hidden_states=gpt2,
                encoder_hidden_states_1=t5,
                encoder_attention_mask_1=torch.ones(1, 12),
            )

    return step


def times(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of each part of a step."""
    shape = (8, args.frames, 16)
    residual = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    book = make("cyclic", shape, 0)
    choice = book.choose(3, residual)
    flat = residual.reshape(-1)

    def papers_way() -> object:
        generator = torch.Generator().manual_seed(3)
        atoms = torch.randn(1024, flat.numel(), generator=generator)
        return atoms[int((atoms @ flat).argmax())]

    result = {
        "unet": seconds(unet_step(args, shape), args.repeats),
        "choose": seconds(lambda: book.choose(3, residual), 4 * args.repeats),
        "noise": seconds(lambda: book.noise(3, choice), 4 * args.repeats),
        "plain noise": seconds(lambda: torch.randn(1, *shape), 4 * args.repeats),
        "paper K=1024": seconds(papers_way, 2),
    }
    result["choose + noise over unet, %"] = (
        100 * (result["choose"] + result["noise"]) / result["unet"]
    )
    result["paper over unet, %"] = 100 * result["paper K=1024"] / result["unet"]
    return result


def peak(kind: str, steps: int, bases: int, frames: int) -> int:
    """Peak memory in MiB of a process that samples; run in a fresh one."""
    shape = (8, frames, 16)
    bars = training_alphas_bar(CONFIG)
    schedule = Schedule.from_config(CONFIG, steps)

    def oracle(x: torch.Tensor, t: int) -> torch.Tensor:
        return float((1 - bars[t]) ** 0.5) * x

    x0 = torch.randn(1, *shape)
    if kind == "plain":
        x = start_noise([0], shape)
        for i, t in enumerate(schedule.timesteps):
            x = schedule.step(i, x, oracle(x, t), torch.randn(1, *shape))
    elif kind == "cyclic":
        DDCM(schedule, make("cyclic", shape, 0, bases=bases)).encode(x0, oracle)
    else:  # the paper's: all atoms of a step in memory
        flat, x = x0.reshape(-1), start_noise([0], shape)
        for i, t in enumerate(schedule.timesteps):
            atoms = torch.randn(1024, flat.numel())
            noise = atoms[int((atoms @ flat).argmax())].reshape(1, *shape)
            x = schedule.step(i, x, oracle(x, t), noise)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def memory(args: argparse.Namespace) -> dict[str, int]:
    """Peak over plain sampling, MiB, by codebook, T and bases."""

    def measure(kind: str, steps: int, bases: int) -> int:
        command = [sys.executable, __file__, "--frames", str(args.frames)]
        command += ["--peak", kind, str(steps), str(bases)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    base = measure("plain", 10, 1)
    cases = [("cyclic", 10, 1), ("cyclic", 100, 1), ("cyclic", 10, 16), ("paper", 3, 1)]
    result = {"plain sampling": base}
    for kind, steps, bases in cases:
        name = f"extra, {kind} T={steps}" + (f" bases={bases}" if kind == "cyclic" else " K=1024")
        result[name] = measure(kind, steps, bases) - base
    return result


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--published", action="store_true", help="published size, random weights")
    parser.add_argument("--frames", type=int, default=256, help="latent frames (256 is 10.24 s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak(args.peak[0], int(args.peak[1]), int(args.peak[2]), args.frames))
        return
    found: dict[str, object] = {"threads": torch.get_num_threads()}
    if not args.memory_only:
        found["seconds"] = {name: round(value, 5) for name, value in times(args).items()}
    if not args.no_memory:
        found["MiB"] = memory(args)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
