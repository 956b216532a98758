"""Where the steps lie at each rate: tuned for a checkpoint on train clips, kept beside it.

The best placement depends on the rate and on the denoiser, so the table belongs to the
checkpoint. A ``.ddcm`` file names its own placement: a decoder never looks here.
"""

from __future__ import annotations

import json
from pathlib import Path

from audioldm_utils.ddcm.codebook.planning import PLACEMENT_BY_RATE, Rule
from audioldm_utils.errors import UserError
from audioldm_utils.model.fits import fitted_path


def placement_path(checkpoint: str | Path, fingerprint: str) -> Path:
    """Where the table of this checkpoint lies."""
    return fitted_path(checkpoint, fingerprint, "placement", ".json")


def load_rules(checkpoint: str | Path, fingerprint: str) -> tuple[Rule, ...]:
    """The checkpoint's tuned table, or `PLACEMENT_BY_RATE` where none was tuned.

    Raises:
        UserError: a file that is damaged or belongs to another checkpoint.
    """
    path = placement_path(checkpoint, fingerprint)
    if not path.is_file():
        return PLACEMENT_BY_RATE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        rules = tuple(
            (float("inf") if limit is None else float(limit), str(name), float(power), float(stop))
            for limit, name, power, stop in record["rules"]
        )
        whose = record["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it and run audioldm-utils fit --parts placement."
        ) from error
    if whose != fingerprint or not rules or rules[-1][0] != float("inf"):
        raise UserError(f"{path} is not this checkpoint's: run audioldm-utils fit again.")
    return rules
