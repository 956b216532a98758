"""The figure of the README from the committed evidence; run it again after `make evidence`.

    python book/assets/make_ladder.py

Writes ladder.svg beside this file. Its description names the evidence by SHA-256, and a test
fails where the two no longer belong together.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from audioldm_utils.book.plotting import points_with_intervals, style
from audioldm_utils.files import atomic_path, sha256_file
from audioldm_utils.results import summaries as results
from audioldm_utils.studies import bottleneck, stage_costs

HERE = Path(__file__).resolve().parent
EVIDENCE = HERE.parent / "evidence" / "01_ladder.csv"


def main() -> Path:
    """Draw the distance of every path by mel and synthesis, without the project's own clips."""
    table = results.read(EVIDENCE)
    record = json.loads(EVIDENCE.with_suffix(".json").read_text())
    judged = table[~table["clip"].isin(record["shipped"])]
    judged = results.select(judged, metric="multi_resolution_stft", band="", stage="")
    # Without the oracles, which no decoder can be.
    rungs = stage_costs.rungs(results.summarise(judged))
    rungs = rungs[~rungs["method"].isin(bottleneck.ORACLES)]
    style()
    matplotlib.rcParams.update({"svg.hashsalt": "ladder", "svg.fonttype": "none"})
    label = "multi-resolution STFT distance (less is better)"
    axes = points_with_intervals(rungs, label, category="mel", series="synthesis")
    axes.set_xlim(left=0)
    count = judged["clip"].nunique()
    axes.set_title(
        f"What each stage costs: mean of {count} eval clips,\n95 % interval; checkpoint mini",
        fontsize=10,
        loc="left",
    )
    path = HERE / "ladder.svg"
    metadata = {"Date": None, "Creator": None, "Description": f"SHA-256 {sha256_file(EVIDENCE)}"}
    with atomic_path(path) as temporary:
        plt.gcf().savefig(temporary, bbox_inches="tight", facecolor="white", metadata=metadata)
    return path


if __name__ == "__main__":
    print(main())
