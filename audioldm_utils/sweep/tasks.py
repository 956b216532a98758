"""What a worker does for one task; sent to workers by name."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils.errors import UserError
from audioldm_utils.files import sha256_file
from audioldm_utils.model.fits import fits_digest
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.sweep.plan import code_hash

if TYPE_CHECKING:
    import pandas as pd

    from audioldm_utils.model.checkpoint import Checkpoint
    from audioldm_utils.sweep.plan import Task


@lru_cache(maxsize=1)
def _checkpoint(name: str, device: str) -> Checkpoint:
    """The last checkpoint that this worker used; tasks come checkpoint by checkpoint."""
    from audioldm_utils.model import checkpoint

    return checkpoint.load(name, device=checkpoint.device_of_worker(device, _number()))


def _number() -> int:
    """Of this worker on its host: workers of the embedded cluster are called by numbers."""
    from distributed import get_worker

    try:
        return int(get_worker().name)
    except ValueError:  # no worker, or one with a name that its host gave
        return 0


def measure(task: Task, device: str = "cpu") -> pd.DataFrame:
    """Reconstruct a clip by a method and measure the result against the original.

    In the results table ``stage`` is the task's label; an oracle's method is marked as one. A
    UserError if clip, checkpoint or package are not what was planned with, or the clip cannot be
    used.

    Args:
        task: what to do.
        device: where the networks run. ``cuda`` with several GPUs: each worker has its own.
    """
    from audioldm_utils import metrics
    from audioldm_utils.audio import clips as audio
    from audioldm_utils.methods.registry import reconstruct

    if task.code != code_hash():
        raise UserError("this worker has another version of audioldm_utils; install the same one")
    path = Path(task.path)
    if not path.is_file():
        raise UserError(f"{path}: the clip is gone, or this worker cannot see its folder")
    if sha256_file(path) != task.content:
        raise UserError(f"{path} changed while the sweep ran; give the same command again")
    belongs = {"recording": task.recording, "collection": task.collection}
    info = audio.ClipInfo(path, task.clip, task.caption, task.category, **belongs)
    clip = audio.load_clip(info, max_seconds=task.max_seconds)
    checkpoint = _checkpoint(task.checkpoint, device)
    if checkpoint.fingerprint != task.fingerprint:
        raise UserError(
            f"checkpoint {task.checkpoint} is another one here ({checkpoint.fingerprint[:12]}) "
            f"than where the sweep was planned ({task.fingerprint[:12]})"
        )
    if task.fits and task.fits != fits_digest(checkpoint.path, task.fingerprint):
        raise UserError(
            f"what is fitted to checkpoint {task.checkpoint} is another here than where the sweep "
            "was planned: give the same command again"
        )
    options = json.loads(task.options)
    (made,) = reconstruct([clip], task.method, checkpoint, seed=task.seed, **options)
    # Compared at the rate of the result: 16 kHz, or the clip's own where the band was extended.
    reference = audio.resample(clip.samples, clip.sample_rate, made.sample_rate)
    length = min(len(reference), len(made.audio))
    pair = reference[:length], made.audio[:length], made.sample_rate
    scores = metrics.evaluate_pair(*pair, names=task.metrics, category=clip.category)
    costs = [
        ("seconds", made.cost.seconds, "s"),
        ("peak_memory", made.cost.peak_memory * 2**20 / 1e6, "MB"),
        ("unet_calls", made.cost.unet_calls, "calls"),
        ("side_bits", made.side_bits, "bit"),
        ("rate", made.kbps, "kbit/s"),
    ]
    rows = ResultsBuilder(task.fingerprint, task.seed, made.label)
    given = {**clip.labels, "stage": task.label}
    for score in scores:
        rows.add(clip.name, score.metric, score.value, score.unit, band=score.band, **given)
    for name, value, unit in costs:
        if not math.isnan(value):
            rows.add(clip.name, name, value, unit, **given)
    return rows.table()
