"""What the published architecture costs at its own size, beside a checkpoint at hand."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import torch

from audioldm_utils.errors import UserError
from audioldm_utils.model.networks import Networks

#: What ``benchmarks/published_size.py`` writes.
TABLE = "published_size.csv"
VARIANT = "ours-float32"
STAGES = ("encode", "UNet step", "decode", "vocode")
#: Without the table: what to do about it.
MISSING = "not measured: run benchmarks/published_size.py"


def stage_seconds(networks: Networks, seconds: float = 2.56, seed: int = 0) -> dict[str, float]:
    """Wall-clock seconds of each of :data:`STAGES` for one second of sound.

    A first, unmeasured pass loads the networks. A UNet step is one call, without guidance.
    """
    frames = round(seconds * 25) * 4
    generator = torch.Generator().manual_seed(seed)
    mel = torch.randn((1, frames, 64), generator=generator) * 2 - 6
    noise = torch.randn((1, 8, frames // 4, 16), generator=generator)
    denoiser = networks.denoiser()
    work = (
        lambda: networks.encode(mel),
        lambda: denoiser(noise, 500),
        lambda: networks.decode(noise),
        lambda: networks.vocode(mel),
    )
    found = {}
    for name, run in zip(STAGES, work, strict=True):
        run()
        began = time.perf_counter()
        run()
        found[name] = (time.perf_counter() - began) / seconds
    return found


def read_published(*folders: str | Path) -> dict[str, float] | None:
    """Seconds a second of sound at the published size, from the first folder with the table.

    The benchmark's UNet step is a guided one, two calls; half of it is taken. None where no
    folder has the table.

    Raises:
        UserError: the table lacks a stage.
    """
    path = next((p for p in (Path(f) / TABLE for f in folders) if p.is_file()), None)
    if path is None:
        return None
    table = pd.read_csv(path)
    table = table[table["variant"] == VARIANT]
    figures = table.set_index("figure")["value"]
    missing = [name for name in STAGES if f"{name} wall s" not in figures]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)} of {VARIANT}: make it again")
    length = float(table["audio seconds"].iloc[0])
    calls = {"UNet step": 2}
    return {name: float(figures[f"{name} wall s"]) / length / calls.get(name, 1) for name in STAGES}


def beside(networks: Networks, name: str, *folders: str | Path) -> pd.DataFrame:
    """Seconds a second of sound by stage: the checkpoint's, timed now, and the published size's.

    Columns ``stage``, ``NAME, s``, ``published size, s`` and ``ratio``, the last two
    :data:`MISSING` and empty where no folder has the benchmark's table.
    """
    published = read_published(*folders) or {}
    rows = []
    for stage, own in stage_seconds(networks).items():
        full = published.get(stage)
        rest = (f"{full:.3g}", f"{full / own:.3g}") if published else (MISSING, "")
        rows.append((stage, f"{own:.3g}", *rest))
    return pd.DataFrame(rows, columns=["stage", f"{name}, s", "published size, s", "ratio"])
