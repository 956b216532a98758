"""Options that several commands share, and the networks that they name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from audioldm_utils import bounds
from audioldm_utils.model.synthesis import CHOICES

if TYPE_CHECKING:
    from audioldm_utils.model.networks import Networks

SHARED: dict[str, dict[str, Any]] = {
    "checkpoint": {"default": "mini", "help": "mini (default), a folder, or a hub id"},
    "device": {"type": bounds.device, "default": "cpu", "help": "torch device (default cpu)"},
    "synthesis": {
        "choices": CHOICES,
        "default": "auto",
        "help": "mel to sound: the checkpoint's vocoder, griffin-lim, the fitted inverse, or auto:"
        " what fit measured to be best for this checkpoint (default %(default)s)",
    },
    "seed": {"type": bounds.SEED, "default": 0, "help": "of all that is random"},
    "limit": {"type": bounds.CLIPS, "help": "number of clips (default: all)"},
    "max-seconds": {"type": bounds.CLIP_SECONDS, "help": "of each clip"},
    "jobs": {"type": bounds.PROCESSES, "help": "worker processes at once"},
}


def add_shared(parser: argparse.ArgumentParser, *names: str, **defaults: Any) -> None:
    """Declare shared options by their names; ``defaults`` take the place of the usual ones."""
    for name in names:
        parser.add_argument(f"--{name}", **SHARED[name])
    parser.set_defaults(**defaults)


def check_device(name: str) -> None:
    """Refuse a device that this machine lacks, before anything is begun for it.

    Raises:
        UserError: it does.
    """
    if name != "cpu":  # which is there, and torch costs seconds
        from audioldm_utils.model.checkpoint import find_device

        find_device(name)


def load_networks(args: argparse.Namespace) -> Networks:
    """The networks of ``--checkpoint`` on ``--device``, each loaded when it is first used."""
    from audioldm_utils.model.checkpoint import load
    from audioldm_utils.model.networks import Networks

    synthesis = getattr(args, "synthesis", "auto")
    return Networks(load(args.checkpoint, (), args.device), synthesis=synthesis)
