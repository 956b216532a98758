"""Committed result tables that cannot go stale: where they come from, and a re-check."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils import __version__
from audioldm_utils.errors import UserError
from audioldm_utils.files import sha256_file

if TYPE_CHECKING:
    import pandas as pd

#: What makes a row of evidence the same measurement; checkpoint is compared by itself.
MEASUREMENT = ["clip", "method", "stage", "metric", "band", "seed"]

#: Units of a stopwatch: a difference between machines says nothing about staleness.
TIMINGS = frozenset({"s", "ms", "MB"})


#: Rows that disagree and are listed in the error.
SHOWN = 20


class StaleEvidenceError(UserError):
    """Recomputed rows disagree with the committed ones."""


def provenance(
    command: str | Sequence[str],
    inputs: Iterable[str | Path] = (),
    seeds: Sequence[int] = (0,),
    checkpoint: str = "",
    libraries: Sequence[str] = ("numpy", "scipy", "torch", "diffusers", "transformers", "librosa"),
    **extra: object,
) -> dict[str, object]:
    """What a table's sidecar records; no time or host, so that equal runs give equal bytes.

    Args:
        command: as one would type it.
        inputs: files whose names and SHA-256 are recorded.
        checkpoint: its full fingerprint.
        libraries: distributions whose versions are recorded.
        extra: further entries, such as ``note="28 clips of eval"``.
    """
    versions = {"audioldm_utils": __version__, "python": platform.python_version()}
    versions |= {name: _version(name) for name in libraries}
    return {
        "command": command if isinstance(command, str) else " ".join(command),
        "inputs": {Path(path).name: sha256_file(path) for path in sorted(map(str, inputs))},
        "seeds": [int(seed) for seed in seeds],
        "checkpoint": checkpoint,
        "versions": versions,
        "platform": f"{sys.platform} {platform.machine()}",
        **extra,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def compare_evidence(
    recomputed: pd.DataFrame,
    committed: pd.DataFrame,
    tolerance: float | Mapping[str, float],
    relative: float = 0.0,
) -> int:
    """Check that rows computed now agree with the committed table; how many were compared.

    Timings and memory (units s, ms, MB) are not.

    Args:
        recomputed: all or a part of the measurements of ``committed``.
        tolerance: absolute, in each metric's unit: one for all, or one a metric name with
            ``""`` for the others.
        relative: allowed besides, as a share of the committed value's magnitude.

    Raises:
        StaleEvidenceError: rows differ by more than is allowed, or are not in the evidence.
        UserError: the evidence is of another checkpoint, or no row could be compared.
    """
    import numpy as np

    recomputed = recomputed[~recomputed["unit"].isin(TIMINGS)]
    for role, table in (("recomputed", recomputed), ("committed", committed)):
        if table.duplicated(MEASUREMENT).any():
            raise UserError(f"the {role} rows hold a measurement more than once")
    made = set(committed["checkpoint"]) - {""}
    now = set(recomputed["checkpoint"]) - {""}
    if not now <= made:
        raise UserError(
            f"the evidence was made with checkpoint {', '.join(sorted(made)) or 'none'}, "
            f"this run uses {', '.join(sorted(now))}; make the evidence again"
        )
    other = committed[[*MEASUREMENT, "value", "checkpoint"]]
    joined = recomputed.merge(other, on=MEASUREMENT, how="left", suffixes=("", "_committed"))
    if joined.empty:
        raise UserError("only 0 row(s) could be compared, 1 are needed")
    limits = tolerance if isinstance(tolerance, Mapping) else {"": tolerance}
    unnamed = sorted(set(joined["metric"]) - set(limits)) if "" not in limits else []
    if unnamed:
        raise UserError(f"no tolerance is stated for {', '.join(unnamed)}")
    old, new = joined["value_committed"].to_numpy(), joined["value"].to_numpy()
    allowed = np.array([limits.get(metric, limits.get("")) for metric in joined["metric"]])
    # An infinite value (a perfect copy's SNR) must be matched by the same infinity.
    finite = np.isfinite(old) & np.isfinite(new)
    allowed = allowed + relative * np.abs(np.where(finite, old, 0.0))
    agree = np.isclose(new, old, rtol=0, atol=allowed)
    agree &= (joined["checkpoint"] == joined["checkpoint_committed"]).to_numpy()
    if agree.all():
        return len(joined)
    wrong = joined.assign(allowed=allowed).loc[~agree]
    lines = [f"{len(wrong)} of {len(joined)} recomputed rows disagree with the evidence:"]
    lines += [
        f"  {row.clip} | {row.method} {row.stage} | {row.metric} {row.band}: now "
        f"{row.value:.6g}, committed {row.value_committed:.6g} {row.unit}, "
        f"allowed {row.allowed:.3g}"
        for row in wrong.head(SHOWN).itertuples()
    ]
    if len(wrong) > SHOWN:
        lines.append(f"  and {len(wrong) - SHOWN} more")
    raise StaleEvidenceError("\n".join(lines))
