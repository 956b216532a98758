"""Mel to waveform: by the checkpoint's own vocoder, or by what needs no checkpoint at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils.errors import UserError
from audioldm_utils.model.fits import fitted_path

if TYPE_CHECKING:
    from torch import Tensor

    from audioldm_utils.model.checkpoint import Checkpoint

#: What sound can be made by. ``vocoder``: the checkpoint's own. ``griffin-lim``: the mel's
#: non-negative inverse and an iterated phase, the plain baseline. ``inverse``: the same phase
#: from magnitudes that a network fitted to real recordings tells from the mel.
SYNTHESES = ("vocoder", "griffin-lim", "inverse")
#: The same, and what ``audioldm-utils fit`` measured to be best for this checkpoint; its own
#: vocoder where nothing was measured.
CHOICES = ("auto", *SYNTHESES)
#: Of Griffin-Lim.
ITERATIONS = 32


def synthesise(mel: Tensor, synthesis: str, iterations: int = ITERATIONS, seed: int = 0) -> Tensor:
    """Waveform ``(batch, 160 * frames)`` of a log-mel ``(batch, frames, 64)``, without a vocoder.

    Args:
        synthesis: ``griffin-lim`` or ``inverse``.
        iterations, seed: of the phase.
    """
    from audioldm_utils.model.inverse import inverse_magnitude
    from audioldm_utils.model.mel import griffin_lim_from, linear_magnitude

    magnitude = inverse_magnitude(mel) if synthesis == "inverse" else linear_magnitude(mel)
    return griffin_lim_from(magnitude, iterations, seed).to(mel.device)


def check_synthesis(synthesis: str) -> None:
    """Refuse what is none of `CHOICES` (UserError)."""
    if synthesis not in CHOICES:
        raise UserError(f"synthesis must be one of {', '.join(CHOICES)}, not {synthesis!r}.")


def chosen(synthesis: str, checkpoint: Checkpoint) -> str:
    """One of `SYNTHESES` for one of `CHOICES`; UserError if what was measured cannot be read."""
    if synthesis != "auto":
        return synthesis
    path = synthesis_path(checkpoint.path, checkpoint.fingerprint)
    if not path.is_file():
        return "vocoder"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = record["synthesis"] if record["fingerprint"] == checkpoint.fingerprint else None
    except (ValueError, KeyError, TypeError):
        found = None
    if found not in SYNTHESES:
        raise UserError(
            f"{path} does not tell this checkpoint's synthesis: delete it, or run "
            "audioldm-utils fit --parts synthesis again."
        )
    return found


def synthesis_path(checkpoint: str | Path, fingerprint: str) -> Path:
    """Where the choice for a checkpoint lies."""
    return fitted_path(checkpoint, fingerprint, "synthesis", ".json")
