"""The studies that there are: which function measures each, on which clips, how exactly.

:mod:`audioldm_utils.studies.run` runs them. Nothing heavy is imported here: a study names its
module, and that one is imported when the study is run.

Most studies measure one clip after another. One of scope ``set`` is given all clips at once,
since it compares them with each other; its rows about one clip, or about two, must not depend
on which others are there. One of scope ``samples`` makes sounds of its own and takes clips
for nothing but a reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from audioldm_utils.audio.clips import Clip, ClipInfo
    from audioldm_utils.model.networks import Stages
    from audioldm_utils.results.tables import ResultsBuilder

#: Measures one clip (or one group of clips) and adds its rows.
Measure = Callable[["Clip | list[Clip]", "Stages", "ResultsBuilder", int], None]


@dataclass(frozen=True)
class Study:
    """One measurement.

    Attributes:
        name: of its table, such as ``01_ladder``.
        module, function: where its :data:`Measure` is found; named, so that worker
            processes import it themselves.
        tolerance: metric name to the largest difference between two runs, in its unit;
            ``""`` for all others.
        relative: allowed besides, as a share of the value.
        every: evidence is made of every so many clips of a folder.
        first: the first of them, counted from 0, so that a study can leave out clips that
            something was tuned on.
        group: clips that are measured together, such as for a mixture; the function then
            takes a list of them. The last group of a folder may be smaller.
        parts: components of the checkpoint that it uses; their fingerprint alone marks its
            rows, so that its evidence outlives a change of the others. Empty for all.
        each: of every so many classes instead, and of each the first so many clips; classes
            that have fewer are passed over. 0: classes do not matter.
        shipped: of every so many shipped clips; 0: as ``every``.
        scope: ``clip``: ``function(clip, stages, rows, seed=...)``; ``set``: the same with a
            list of clips; ``samples``: ``function(clips, stages, rows, seed=..., most=...)``,
            at most so many samples of a kind.
    """

    name: str
    module: str
    function: str
    tolerance: dict[str, float]
    relative: float = 0.0
    every: int = 1
    group: int = 1
    first: int = 0
    parts: tuple[str, ...] = ()
    each: int = 0
    shipped: int = 0
    scope: Literal["clip", "set", "samples"] = "clip"

    def measure(self) -> Callable[..., None]:
        """The function itself; a :data:`Measure` where the scope is ``clip``."""
        import importlib

        return getattr(importlib.import_module(self.module), self.function)

    def chosen(self, clips: Sequence[ClipInfo]) -> list[ClipInfo]:
        """The clips of a folder that evidence is made of."""
        if not self.each:
            return list(clips[self.first :: self.every])
        classes: dict[str | None, list[ClipInfo]] = {}
        for info in clips:
            classes.setdefault(info.category, []).append(info)
        full = [members for members in classes.values() if len(members) >= self.each]
        return [info for members in full[:: self.every] for info in members[: self.each]]


#: What reconstruction without diffusion uses.
SOUND = ("vae", "vocoder")

_BOTTLENECK = "audioldm_utils.studies.bottleneck"
_COMPARED = "audioldm_utils.studies.codecs"
STUDIES = {
    study.name: study
    for study in (
        # Griffin-Lim and the vocoder make up phase: rounding on another machine moves
        # waveform metrics a little, spectral ones hardly.
        Study("01_ladder", _BOTTLENECK, "study", {"": 0.05}, 0.02, 2, parts=SOUND),
        Study(
            "01_refined",
            _BOTTLENECK,
            "study_refined",
            {"": 0.02},
            0.02,
            16,
            parts=SOUND,
        ),
        Study(
            "01_mistakes",
            _BOTTLENECK,
            "study_mistakes",
            {"": 0.05},
            0.02,
            8,
            parts=SOUND,
        ),
        Study(
            "01_attacks",
            _BOTTLENECK,
            "study_attacks",
            {"": 0.05},
            0.02,
            8,
            parts=SOUND,
        ),
        # Single choices are bits, whole encodings are not; see the next ones.
        Study("04_choices", "audioldm_utils.studies.choices", "study", {"": 0.15}, 0.15, 18),
        # Gradient steps add up roundings; those of the search for side information decide.
        Study(
            "02_repair",
            "audioldm_utils.studies.repair",
            "study",
            {
                "": 0.3,
                "visqol": 0.15,
                "multi_resolution_stft": 0.05,
                "mel_error": 0.03,
                "mel_distance": 0.03,
                "kept": 1.0,
                "hum": 20.0,
            },
            relative=0.1,
            every=4,
            first=1,
            parts=SOUND,
        ),
        Study(
            "03_diffusion",
            "audioldm_utils.studies.diffusion",
            "study",
            {"": 0.1, "log_mel_distance": 0.4, "visqol": 0.15, "largest_latent_difference": 2.0},
            relative=0.1,
            every=12,
            first=1,
        ),
        # One flipped choice moves all that follow, so single clips may differ by more.
        Study("05_rates", "audioldm_utils.studies.rates", "study", {"": 0.15}, 0.15, every=8),
        Study("05_placement", _COMPARED, "study_placement", {"": 0.15}, 0.15, every=16),
        # Clips of the studies above, whose rows it is paired with.
        Study("05_codebooks", _COMPARED, "study_codebooks", {"": 0.15}, 0.15, every=16),
        Study("05_mixtures", _COMPARED, "study_mixtures", {"": 0.15}, 0.15, every=5, group=3),
        Study("06_samples", "audioldm_utils.studies.sampling", "study", {"": 0.1}, scope="samples"),
        Study(
            "06_editing",
            "audioldm_utils.studies.editing",
            "study",
            {"": 0.1},
            0.1,
            20,
            shipped=8,
        ),
        Study(
            "07_correlation",
            "audioldm_utils.studies.verification",
            "study",
            {"": 0.1},
            0.05,
            every=2,
            each=2,
            shipped=8,
            scope="set",
        ),
    )
}

#: Clip name of rows about all samples of a method together.
WHOLE = "all samples"
