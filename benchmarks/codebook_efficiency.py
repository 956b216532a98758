"""What each codebook's choices are worth, beside theory: tables for the chapter «Codebooks».

    python benchmarks/codebook_efficiency.py [--draws 256] [--out book/evidence]

Writes ``codebook_efficiency.csv`` (single choices on white and smooth residuals of 10.24 s)
and ``codebook_oracle.csv`` (whole reverse processes with the exact denoiser of N(0, I)), each
with a JSON that says how it was made. Efficiency is -N log2(1 - cos^2) / (2 bits); intervals
are 95 % over draws, normal approximation. About three minutes of one core.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from audioldm_utils.ddcm.codebook import (
    CyclicShift,
    Gaussian,
    KMeans,
    MatchingPursuit,
    Turbo,
    start_noise,
)
from audioldm_utils.ddcm.codebook.base import Codebook
from audioldm_utils.ddcm.codebook.fitted import to_blocks
from audioldm_utils.files import atomic_path, atomic_write
from audioldm_utils.model.schedule import Schedule
from audioldm_utils.results.evidence import provenance
from audioldm_utils.studies.codebook_fits import fit_directions
from audioldm_utils.studies.codebook_theory import (
    efficiency,
    expected_cosine_top,
    expected_efficiency,
    rate_distortion_correlation,
)

SHAPE = (8, 256, 16)
VALUES = 32768
SMOOTHING = (8.0, 2.0)
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "steps_offset": 1,
}


def residuals(count: int, seed: int, smooth: bool) -> Tensor:
    """White normal residuals, or the same smoothed by a Gaussian over (8 frames, 2 bins)."""
    drawn = start_noise(range(seed, seed + count), SHAPE)
    if not smooth:
        return drawn
    for axis, width in ((2, SMOOTHING[0]), (3, SMOOTHING[1])):
        gain = torch.exp(-2 * (math.pi * width * torch.fft.rfftfreq(SHAPE[axis - 1])) ** 2)
        gain = gain[:, None] if axis == 2 else gain
        spectrum = torch.fft.rfft(drawn, dim=axis) * gain
        drawn = torch.fft.irfft(spectrum, n=SHAPE[axis - 1], dim=axis)
    return drawn


def measure(book: Codebook, atoms: int, draws: int, batch: int, smooth: bool) -> dict[str, object]:
    """One row: mean efficiency with its interval, mean cosine, seconds of processor a choice."""
    cosines, start = [], time.process_time()
    for first in range(0, draws, batch):
        count = min(batch, draws - first)
        residual = residuals(count, 10_000 + first, smooth)
        noise = book.noise(first, book.choose(first, residual, atoms))
        cosines.append(torch.cosine_similarity(noise.flatten(1), residual.flatten(1)))
    seconds = (time.process_time() - start) / draws
    cosine = torch.cat(cosines).double().numpy()
    values = efficiency(cosine, VALUES, book.bits(atoms))
    half = 1.96 * values.std(ddof=1) / math.sqrt(draws)
    return {
        "bits": round(book.bits(atoms), 3),
        "residual": "smooth" if smooth else "white",
        "efficiency": round(float(values.mean()), 5),
        "low": round(float(values.mean() - half), 5),
        "high": round(float(values.mean() + half), 5),
        "cosine": round(float(cosine.mean()), 6),
        "n": draws,
        "seconds": round(seconds, 6),
    }


def theory_of(book: Codebook, atoms: int) -> float | str:
    """Efficiency by theory, for independent atoms of this number; empty where there is none."""
    if isinstance(book, (Gaussian, CyclicShift)):
        return round(expected_efficiency(book.size, VALUES), 5)
    if isinstance(book, Turbo):
        cosine = expected_cosine_top(book.size, atoms, VALUES)
        return round(float(efficiency(cosine, VALUES, book.bits(atoms))), 5)
    return ""


def fitted(centres: int, block: tuple[int, int]) -> KMeans:
    """k-means atoms for smooth residuals, fitted on other draws than those of the table."""
    drawn = (residuals(8, 5_000 + 8 * i, True) for i in range(8))
    rows = torch.cat([to_blocks(part, block).flatten(0, 1) for part in drawn])
    return KMeans(SHAPE, centres=fit_directions(rows, centres, iterations=10), block=block)


def cases(draws: int) -> Iterator[tuple[str, Callable[[], Codebook], int, int, int, bool]]:
    """(name, codebook, atoms, draws, batch, smooth), the required ones first."""
    some = max(draws // 2, 2)
    for atoms in (1, 8, 32):
        for smooth in (False, True):
            yield "cyclic shift", lambda: CyclicShift(SHAPE), atoms, draws, 16, smooth
    yield "cyclic shift, no mask", lambda: CyclicShift(SHAPE, mask=False), 1, draws, 16, True
    for size in (64, 256, 1024, 4096):
        yield "independent", lambda k=size: Gaussian(SHAPE, size=k), 1, draws, 64, False
    yield "independent", lambda: Gaussian(SHAPE, size=1024), 1, draws, 64, True
    for atoms in (4, 16):
        yield "independent", lambda: Gaussian(SHAPE, size=1024), atoms, some, 64, False
    for atoms, smooth in ((30, False), (30, True), (100, False), (300, False)):
        yield "Turbo-style", lambda: Turbo(SHAPE, size=16384), atoms, some, 64, smooth
    for atoms, precision in ((4, 1), (2, 3), (4, 3), (8, 3)):
        yield (
            f"matching pursuit, C={precision}",
            lambda c=precision: MatchingPursuit(SHAPE, size=1024, coefficient_bits=c),
            atoms,
            some,
            64,
            False,
        )
    for centres, block in ((256, (32, 8)), (256, (16, 4)), (256, (8, 4))):
        for smooth in (False, True):
            yield "k-means", lambda k=centres, b=block: fitted(k, b), 1, some, 16, smooth
    for atoms in (2, 4, 64):
        yield "cyclic shift", lambda: CyclicShift(SHAPE), atoms, some, 16, False
    for bases, atoms, count in ((4, 1, draws), (16, 1, some), (64, 1, some), (16, 8, some)):
        yield (
            f"cyclic shift, {bases} bases",
            lambda b=bases: CyclicShift(SHAPE, bases=b),
            atoms,
            count,
            16,
            False,
        )


def follow(
    book: Codebook, schedule: Schedule, atoms: int, batch: int, random: bool
) -> tuple[float, float]:
    """Mean and spread of the correlation of results with inputs, exact denoiser of N(0, I)."""
    x0 = start_noise(range(700, 700 + batch), book.shape)
    x = start_noise(range(batch), book.shape)
    for i in range(len(schedule)):
        now = schedule.alphas_bar[i]
        output = math.sqrt(1 - now) * x  # epsilon, for x0hat = sqrt(now) x
        if i == schedule.noisy_steps:
            x = schedule.step(i, x, output)
            break
        residual = x0 - schedule.predict_x0(i, x, output)
        choice = (
            book.random_choice(i, range(batch), atoms)
            if random
            else book.choose(i, residual, atoms)
        )
        x = schedule.step(i, x, output, book.noise(i, choice))
    reached = torch.cosine_similarity(x.flatten(1), x0.flatten(1))
    return float(reached.mean()), float(reached.std())


def oracle_rows() -> Iterator[dict[str, object]]:
    """Whole reverse processes, N = 4,096."""
    shape = (8, 32, 16)
    cyclic = CyclicShift(shape)
    wanted: list[tuple[str, Codebook, int, int, dict[str, object], bool]] = [
        ("cyclic shift, random", cyclic, 200, 1, {}, True),
        ("independent, K=64", Gaussian(shape, size=64), 1000, 1, {}, False),
    ]
    for steps, atoms in ((200, 1), (50, 4), (30, 8), (30, 32)):
        wanted.append(("cyclic shift", cyclic, steps, atoms, {}, False))
        for stop in (0.5, 0.9, 0.97):
            place = {"placement": "alpha-bar", "stop": stop}
            wanted.append(("cyclic shift", cyclic, steps, atoms, place, False))
    place = {"placement": "log-snr", "stop": 0.97}
    wanted.append(("cyclic shift", cyclic, 200, 1, place, False))
    wanted.append(("independent, K=1024", Gaussian(shape, size=1024), 1000, 1, {}, False))
    for name, book, steps, atoms, placement, random in wanted:
        schedule = Schedule.from_config(SCHEDULER, steps, **placement)
        batch = 4
        mean, spread = follow(book, schedule, atoms, batch, random)
        rate = schedule.noisy_steps * book.bits(atoms) / book.values
        yield {
            "codebook": name,
            "steps": steps,
            "atoms": atoms,
            "placement": placement.get("placement", "uniform"),
            "stop": placement.get("stop", ""),
            "bits_per_value": round(rate, 4),
            "correlation": round(mean, 5),
            "spread": round(spread, 5),
            "bound": "" if random else round(float(rate_distortion_correlation(rate)), 5),
            "n": batch,
        }


def efficiency_rows(draws: int) -> Iterator[dict[str, object]]:
    """Single choices."""
    for name, make, atoms, count, batch, smooth in cases(draws):
        book = make()
        row = measure(book, atoms, count, batch, smooth)
        yield {
            "codebook": name,
            "size": book.size,
            "atoms": atoms,
            **row,
            "theory": theory_of(book, atoms),
            "codebook_bits": 16 * book.centres.numel() if isinstance(book, KMeans) else 0,
        }


def write(path: Path, rows: Iterator[dict[str, object]]) -> None:
    """Write a table as its rows come, each complete under its name."""
    done: list[dict[str, object]] = []
    for row in rows:
        done.append(row)
        print(path.stem, row, flush=True)
        with atomic_path(path) as temporary, temporary.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(row))
            writer.writeheader()
            writer.writerows(done)
    record = provenance(
        "python " + " ".join(sys.argv),
        note="one thread; seconds are processor time of choosing and making the noise, a draw",
        libraries=("numpy", "scipy", "torch"),
    )
    atomic_write(path.with_suffix(".json"), json.dumps(record, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Measure both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("book/evidence"))
    parser.add_argument("--tables", nargs="*", default=["oracle", "efficiency"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    np.seterr(all="raise", under="ignore")
    if "oracle" in args.tables:
        write(args.out / "codebook_oracle.csv", oracle_rows())
    if "efficiency" in args.tables:
        write(args.out / "codebook_efficiency.csv", efficiency_rows(args.draws))


if __name__ == "__main__":
    main()
