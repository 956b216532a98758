"""What a chapter's sentences rest on: committed evidence, or the run at hand alone.

Committed rows stand for a run only if they were made with its own parameters, checkpoint, clips.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from audioldm_utils.audio.clips import ClipInfo
from audioldm_utils.files import sha256_file
from audioldm_utils.results.evidence import compare_evidence
from audioldm_utils.results.tables import read
from audioldm_utils.studies.registry import STUDIES, WHOLE

#: What every study takes; the rest of its parameters stand in its chapter.
DEFAULTS: Mapping[str, Any] = {"seed": 0}


@dataclass(frozen=True)
class Findings:
    """What a chapter's sentences rest on.

    Attributes:
        table, n: rows of the judged clips, and how many these are.
        source, rests: says which, for captions; as a sentence, with the reason for this run alone.
        compared: rows of this run that were checked against the evidence; 0 if there is none.
        at_hand: of the clips that can be played here: this run's rows, or the committed ones.
        run: rows of this run.
    """

    table: pd.DataFrame
    n: int
    source: str
    rests: str
    compared: int
    at_hand: pd.DataFrame
    run: pd.DataFrame


def made_with(record: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a study, from its table's sidecar; older ones hold its seed alone."""
    return dict(record.get("parameters") or {"seed": record["seeds"][0]})


def as_recorded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as a sidecar gives them back: tuples as lists, paths as text."""
    return json.loads(json.dumps(dict(parameters), default=str))


def why_alone(
    name: str,
    clips: Sequence[ClipInfo],
    parameters: Mapping[str, Any],
    checkpoint: str,
    evidence_dir: str | Path,
) -> str:
    """Why a run of a study cannot rest on the committed table; empty if it can.

    The end of a sentence, such as "seed is 1, while the committed table has 0".

    Args:
        parameters: seed and grid of the run.
        checkpoint: fingerprint of those components that the study uses.
        evidence_dir: where ``<name>.csv`` and its sidecar ``<name>.json`` lie.
    """
    path = Path(evidence_dir) / f"{name}.json"
    if not path.is_file() or not path.with_suffix(".csv").is_file():
        return f"{evidence_dir} holds no table of {name}"
    record = json.loads(path.read_text())
    made, now = made_with(record), as_recorded(parameters)
    differing = [key for key in sorted({*made, *now}) if made.get(key) != now.get(key)]
    if differing:
        return "; ".join(
            f"{key} is {now.get(key, 'not given')}, while the committed table has "
            f"{made.get(key, 'none')}"
            for key in differing
        )
    if record["checkpoint"][:12] != checkpoint[:12]:
        return "the committed table is of another checkpoint"
    taken = STUDIES[name].clips
    if not taken.reference and not evidence_clips(name, clips, evidence_dir):
        if taken.together > 1:
            return "these clips do not make up the groups of the committed table"
        return "the committed table holds none of these clips"
    return ""


def rests_on_evidence(
    name: str,
    clips: Sequence[ClipInfo],
    parameters: Mapping[str, Any],
    fingerprint_of: Callable[[Sequence[str]], str],
    evidence_dir: str | Path,
) -> bool:
    """Whether :func:`findings` of such a run are the evidence's; never of an unknown study."""
    return name in STUDIES and not why_alone(
        name, clips, parameters, fingerprint_of(STUDIES[name].parts), evidence_dir
    )


def evidence_clips(
    name: str, clips: Sequence[ClipInfo], evidence_dir: str | Path
) -> Sequence[ClipInfo]:
    """Those of the clips that a study's evidence was made from: same file name, same SHA-256.

    Of a study of groups only all clips of one folder count: with some of them missing, the
    others would fall into other groups than the evidence's.
    """
    record = json.loads((Path(evidence_dir) / f"{name}.json").read_text())
    inputs = record["inputs"]
    named = [info for info in clips if info.path.name in inputs]  # no other is worth a hash
    held = [info for info in named if inputs[info.path.name] == sha256_file(info.path)]
    if STUDIES[name].clips.together < 2:
        return held
    shipped = {file for file in inputs if Path(file).stem in record["shipped"]}
    there = {info.path.name for info in held}
    whole = [part for part in (shipped, set(inputs) - shipped) if part <= there]
    return [info for info in held if any(info.path.name in part for part in whole)]


def findings(
    run: pd.DataFrame,
    clips: Sequence[ClipInfo],
    name: str,
    evidence_dir: str | Path,
    parameters: Mapping[str, Any] = DEFAULTS,
    measured: bool = True,
) -> Findings:
    """Committed evidence if it is of these clips, parameters and checkpoint; else this run.

    The rows of this run are checked against the committed ones before those are used;
    ``measured``: whether they are of this run, and not the committed ones standing in.

    Raises:
        StaleEvidenceError: this run's rows disagree with the committed ones.
    """
    checkpoints = set(run["checkpoint"])
    if len(checkpoints) != 1:
        raise ValueError(f"a run is of one checkpoint, got {sorted(checkpoints)}")
    study = STUDIES[name]
    made_up = study.clips.reference
    reason = why_alone(name, clips, parameters, checkpoints.pop(), evidence_dir)
    if reason:
        n = _count(run, made_up)
        source = f"{n} {'generated sample' if made_up else 'clip'}{'s' * (n != 1)}"
        if run["recording"].nunique() < run["clip"].nunique():
            source += f" of {run['recording'].nunique()} recordings"
        rests = f"The findings rest on this run alone ({source}): {reason}."
        return Findings(run, n, f"{source} of this run", rests, 0, run, run)
    committed = read(Path(evidence_dir) / f"{name}.csv")
    # What a set of samples has depends on how many they are, and on the clips at hand.
    single = run[run["clip"] != WHOLE] if made_up else run
    compared = (
        compare_evidence(single, committed, study.tolerance, study.relative) if measured else 0
    )
    if made_up:
        judged, at_hand, source = committed, run, "generated samples"
    else:
        record = json.loads((Path(evidence_dir) / f"{name}.json").read_text())
        judged = committed[~committed["clip"].isin(record["shipped"])]
        shared = {info.name for info in evidence_clips(name, clips, evidence_dir)}
        at_hand = committed[committed["clip"].isin(shared)]
        source, cut_from = "real recordings never trained on", judged["recording"].nunique()
        if cut_from < judged["clip"].nunique():
            source = f"clips of {cut_from} {source}"
    n = _count(judged, made_up)
    again = (
        f"; {compared} of its {len(committed)} rows were measured again here and agree" * measured
    )
    rests = f"The findings rest on {n} {source}, from a stored table{again}."
    return Findings(judged, n, f"{n} {source}", rests, compared, at_hand, run)


def _count(table: pd.DataFrame, samples: bool) -> int:
    """How many clips, or generated sounds, a table is about."""
    if not samples:
        return table["clip"].nunique()
    made = table[table["clip"] != WHOLE]
    return len(made[["clip", "method", "stage"]].drop_duplicates())
