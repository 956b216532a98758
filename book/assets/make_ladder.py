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
from audioldm_utils.studies import bottleneck as ladder

HERE = Path(__file__).resolve().parent
EVIDENCE = HERE.parent / "evidence" / "01_ladder.csv"


def main() -> Path:
    """Draw the log-mel distance of every path; clips that the project made are left out."""
    table = results.read(EVIDENCE)
    record = json.loads(EVIDENCE.with_suffix(".json").read_text())
    judged = table[~table["clip"].isin(record["shipped"])]
    judged = results.select(judged, metric="log_mel_distance", band="", stage="")
    # Without the oracles, which no decoder can be, and the band limit, measured at another rate.
    paths = [path for path in ladder.PATHS if "phase" not in path and path != "band-limit"]
    summary = results.summarise(judged[judged["method"].isin(paths)])
    style()
    matplotlib.rcParams.update({"svg.hashsalt": "ladder", "svg.fonttype": "none"})
    axes = points_with_intervals(summary, "log-mel distance, dB (less is better)", order=paths)
    axes.set_xlim(left=0)
    count = judged["clip"].nunique()
    axes.set_title(
        f"What each stage costs: mean of {count} real recordings, 95 % interval; checkpoint mini",
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
