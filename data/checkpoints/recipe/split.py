"""What belongs to one recording, and which recordings of train are held out for tuning.

Clips cut from one recording, or composed of the same notes, belong together: on the other part
of them a model is no stranger. ``tune`` holds whole recordings, so what is chosen on it is
chosen on sounds that training has not heard. The eval split is never opened for a choice.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from audioldm_utils.audio import origins
from audioldm_utils.metrics.pitch import TONAL as TONAL

#: Recordings in ``tune``.
HELD_OUT = 60
#: A recording of more clips than this stays in training: an instrument of many notes, say.
LARGEST = 15


def recordings(table: pd.DataFrame, takes: bool = False) -> np.ndarray:
    """Name of the recording that each clip belongs to: the first of its clips.

    Args:
        table: of clips, as :func:`audioldm_utils.audio.origins.recordings` takes its rows.
        takes: whether takes of one source belong together, as intervals have it; `tune` was
            drawn without.
    """
    return table["file"].to_numpy()[origins.recordings(table.to_dict("records"), takes)]


def tune_mask(table: pd.DataFrame) -> np.ndarray:
    """Which clips are held out: `HELD_OUT` whole recordings, the classes in turn.

    The order within a class is that of the names' SHA-256, so no one chose it.
    """
    groups = table.assign(recording=recordings(table)).groupby("recording")
    chosen = groups.agg(clips=("file", "size"), kind=("class", "first"))
    chosen = chosen[chosen["clips"] <= LARGEST].reset_index()
    chosen["order"] = [hashlib.sha256(name.encode()).hexdigest() for name in chosen["recording"]]
    chosen = chosen.sort_values("order")
    chosen["turn"] = chosen.groupby("kind").cumcount()
    held = chosen.sort_values(["turn", "order"])["recording"].head(HELD_OUT)
    return np.isin(recordings(table), held)
