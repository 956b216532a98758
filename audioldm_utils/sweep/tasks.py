"""What a worker does for one task; sent to workers by name."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils.errors import UserError
from audioldm_utils.files import sha256_file
from audioldm_utils.tables import ResultsBuilder

if TYPE_CHECKING:
    import pandas as pd

    from audioldm_utils.checkpoint import Checkpoint
    from audioldm_utils.sweep.plan import Task


@lru_cache(maxsize=1)
def _checkpoint(name: str) -> Checkpoint:
    """The last checkpoint that this worker used; tasks come checkpoint by checkpoint."""
    from audioldm_utils import checkpoint

    return checkpoint.load(name)


def measure(task: Task) -> pd.DataFrame:
    """Reconstruct a clip by a method and measure the result against the original.

    Returns:
        A results table: the metrics that apply, seconds, network calls, bits of side
        information and kbit/s; ``stage`` is the task's label.

    Raises:
        UserError: the clip or the checkpoint is not what was planned, or cannot be used.
    """
    from audioldm_utils import metrics, reconstruct
    from audioldm_utils.audio import ClipInfo, load_clip

    path = Path(task.path)
    if not path.is_file():
        raise UserError(f"{path}: the clip is gone, or this worker cannot see its folder")
    if sha256_file(path) != task.content:
        raise UserError(f"{path} changed while the sweep ran; give the same command again")
    info = ClipInfo(path, task.clip, task.caption, task.category)
    clip = load_clip(info, max_seconds=task.max_seconds)
    checkpoint = _checkpoint(task.checkpoint)
    if checkpoint.fingerprint != task.fingerprint:
        raise UserError(
            f"checkpoint {task.checkpoint} is another one here ({checkpoint.fingerprint[:12]}) "
            f"than where the sweep was planned ({task.fingerprint[:12]})"
        )
    options = json.loads(task.options)
    (output,) = reconstruct.reconstruct([clip], task.method, checkpoint, seed=task.seed, **options)
    scores = metrics.evaluate_pair(
        output.reference,
        output.samples,
        output.sample_rate,
        names=task.metrics,
        category=clip.category,
    )
    rows = ResultsBuilder(task.fingerprint, task.seed, task.method)

    def add(metric: str, value: float, unit: str, band: str = "") -> None:
        rows.add(
            clip.name, metric, value, unit, category=clip.category, stage=task.label, band=band
        )

    for score in scores:
        add(score.metric, score.value, score.unit, score.band)
    add("seconds", output.seconds, "s")
    add("forward calls", output.forward_calls, "calls")
    add("backward calls", output.backward_calls, "calls")
    add("side information", output.side_bits, "bit")
    add("rate", output.side_bits / clip.seconds / 1000, "kbit/s")
    return rows.table()
