"""The studies that there are: which function measures each, on which clips, how exactly.

Nothing heavy is imported here: a study names its function, which is imported when it is run.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from audioldm_utils.errors import UserError

if TYPE_CHECKING:
    from audioldm_utils.audio.clips import ClipInfo


@dataclass(frozen=True)
class Clips:
    """Which clips of a folder evidence is made of, and how many are measured together.

    Attributes:
        every, first: one of so many clips, from that one: what was tuned on others is judged here.
        each: one of ``every`` classes instead, and of each that has so many recordings the first
            clip of so many.
        shipped: one of so many of the project's own clips; 0: as ``every``.
        together: clips that the function takes at once, as a list; 0: all of a folder.
        reference: the study makes sounds of its own and takes clips for a reference only.
    """

    every: int = 1
    first: int = 0
    each: int = 0
    shipped: int = 0
    together: int = 1
    reference: bool = False

    def of_folder(self, clips: Sequence[ClipInfo]) -> list[ClipInfo]:
        """Those that evidence is made of."""
        if not self.each:
            return list(clips[self.first :: self.every])
        classes: dict[str | None, dict[str, ClipInfo]] = {}
        for info in clips:
            classes.setdefault(info.category, {}).setdefault(info.recording, info)
        full = [list(found.values()) for found in classes.values() if len(found) >= self.each]
        return [info for members in full[:: self.every] for info in members[: self.each]]

    def of_shipped(self, clips: Sequence[ClipInfo]) -> list[ClipInfo]:
        """Those of the project's own clips."""
        return [] if self.reference else list(clips[self.first :: self.shipped or self.every])

    def groups(self, clips: Sequence[ClipInfo]) -> list[Sequence[ClipInfo]]:
        """Clips that are measured at once."""
        size = self.together or max(len(clips), 1)
        return [clips[i : i + size] for i in range(0, len(clips), size)]


@dataclass(frozen=True)
class Study:
    """One measurement, named as its table is.

    Attributes:
        where: ``module:function``; the function takes a clip (or a list, see :class:`Clips`),
            the networks, a ``ResultsBuilder``, and seed and grid by name.
        tolerance: largest difference between two runs by metric; ``""`` for all others.
        relative: allowed besides, as a share of the value.
        parts: components of the checkpoint whose fingerprint marks its rows; empty for all.
    """

    name: str
    where: str
    tolerance: Mapping[str, float]
    relative: float = 0.0
    clips: Clips = field(default_factory=Clips)
    parts: tuple[str, ...] = ()

    def function(self) -> Callable[..., None]:
        """The function itself."""
        return pkgutil.resolve_name(self.where)

    def parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the given values that a run takes: seed and grid, and what makes sound."""
        taken = [*list(inspect.signature(self.function()).parameters)[3:], "synthesis"]
        return {name: given[name] for name in taken if name in given}


def _here(name: str, where: str, *arguments: Any, **options: Any) -> Study:
    return Study(name, f"audioldm_utils.studies.{where}", *arguments, **options)


#: What reconstruction without diffusion uses.
SOUND = ("vae", "vocoder")
#: Gradient steps add up roundings; those of the search for side information decide.
_REPAIR = {
    "": 0.3, "visqol": 0.15, "multi_resolution_stft": 0.05, "mel_error": 0.03,
    "mel_distance": 0.03, "kept": 1.0, "hum": 20.0, "f0_error": 20.0,
}  # fmt: skip
_DIFFUSION = {"": 0.1, "log_mel_distance": 0.4, "visqol": 0.15}
#: One flipped choice moves all that follow, so single clips may differ by more.
_CODED = ({"": 0.15}, 0.15)

STUDIES = {study.name: study for study in (
    # Griffin-Lim and the vocoder make up phase: rounding on another machine moves waveform
    # metrics a little, spectral ones hardly.
    # Every second clip, and parts of these: one set for what reconstructs without diffusion.
    # From the second on, since some early constants of the repairs were tuned on the first.
    _here("01_ladder", "bottleneck:measure_paths", {"": 0.05, "f0_error": 20.0}, 0.02,
          Clips(2, first=1), SOUND),
    _here("01_refined", "bottleneck:measure_refined", {"": 0.02}, 0.02,
          Clips(4, first=1), SOUND),
    _here("01_mistakes", "bottleneck:measure_mistakes", {"": 0.05}, 0.02,
          Clips(8, first=1), SOUND),
    _here("01_attacks", "bottleneck:measure_attacks", {"": 0.05, "f0_error": 20.0}, 0.02,
          Clips(4, first=1), SOUND),
    _here("02_repair", "repair:measure_repairs", _REPAIR, 0.1, Clips(2, first=1), SOUND),
    _here("03_diffusion", "diffusion:measure_diffusion", _DIFFUSION, 0.1, Clips(5, first=1)),
    _here("04_choices", "choices:measure_choices", *_CODED, Clips(5, shipped=8)),
    # Every second clip, so that speech and tonal clips are enough to be judged alone.
    _here("05_rates", "rates:measure_rates", *_CODED, Clips(2, shipped=6)),
    # Clips of the one above, whose rows theirs are paired with.
    _here("05_placement", "rates:measure_placement", *_CODED, Clips(4, shipped=6)),
    _here("05_codebooks", "rates:measure_codebooks", *_CODED, Clips(4, shipped=6)),
    _here("05_mixtures", "rates:measure_mixtures", *_CODED, Clips(2, shipped=5, together=3)),
    _here("06_samples", "sampling:measure_samples", {"": 0.1, "level": 3.0, "class_told": 1.0},
          clips=Clips(together=0, reference=True)),
    _here("06_editing", "editing:measure_edits", {"": 0.1}, 0.1, Clips(5, shipped=8)),
    _here("07_correlation", "verification:measure_correlations", {"": 0.1}, 0.05,
          Clips(1, each=2, shipped=8, together=0)),
)}  # fmt: skip

#: Clip name of rows about all samples of a method together.
WHOLE = "all samples"


def find_study(name: str) -> Study:
    """The study of that name.

    Raises:
        UserError: there is none; the message names those that there are.
    """
    if name not in STUDIES:
        raise UserError(f"unknown study {name!r}; there are {', '.join(STUDIES)}")
    return STUDIES[name]
