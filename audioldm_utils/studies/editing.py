"""Study ``06_editing``: a clip's codes under another prompt, and clips as prompts.

A clip is encoded under its own caption and decoded under it, but from some step on under a target
prompt, while the codes stay. Audio prompts: the clip's CLAP embedding takes the place of a text's.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from audioldm_utils.audio.clips import Clip, fit_length, to_model_rate
from audioldm_utils.ddcm import codebook as codebooks
from audioldm_utils.ddcm.core import DDCM
from audioldm_utils.metrics.correlations import correlate
from audioldm_utils.metrics.statistics import Interval
from audioldm_utils.model.networks import Networks, normalise
from audioldm_utils.model.schedule import Schedule
from audioldm_utils.results.summaries import select, summarise
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies.prompts import other_prompt
from audioldm_utils.studies.rows import Row, clip_seed
from audioldm_utils.studies.verdicts import difference, of


def _coder(networks: Networks, frames: int, seed: int, steps: int, atoms: int) -> DDCM:
    """Cyclic-shift DDCM of so many calls for ``frames`` latent frames."""
    schedule = Schedule.from_config(networks.checkpoint.scheduler_config, steps)
    return DDCM(schedule, codebooks.make("cyclic", (8, frames, 16), seed, bases=1), atoms)


def change_name(share: float) -> str:
    """What tables call an edit from that share of the steps on."""
    return f"change at {share:.0%}"


def edits(
    clip: Clip, networks: Networks, seed: int, seconds: float, guidance: float, edit_steps: int,
    edit_atoms: int, changes: Sequence[float],
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Name of an edit to its latents; the source's own under ``source``.

    Args:
        seconds: of the clip's beginning, filled with silence.
        guidance: towards the target prompt.
        edit_steps, edit_atoms: network calls, and atoms of each choice.
        changes: from which share of the steps on the target prompt is used; 1: never.
    """
    count = round(seconds * networks.mel_config.sample_rate)
    wave = torch.from_numpy(fit_length(to_model_rate(clip), count))[None]
    latents = networks.encode(networks.to_mel(normalise(wave)[0]))
    model = _coder(networks, latents.shape[2], seed, edit_steps, edit_atoms)
    source = networks.denoiser(networks.embed([clip.caption or ""]))
    target = networks.denoiser(networks.embed([other_prompt(clip)], ""), guidance)
    codes = model.encode(latents, source)
    found = {"source": latents}
    for share in changes:
        step = round(share * edit_steps)
        edit = None if step >= edit_steps else (step, target)
        found[change_name(share)] = model.decode(codes, source, edit=edit)
    return found


def measure_edits(
    clip: Clip, networks: Networks, rows: ResultsBuilder, seed: int, seconds: float,
    guidance: float, edit_steps: int, edit_atoms: int, changes: Sequence[float],
) -> None:  # fmt: skip
    """Likeness to target and source of each of :func:`edits`, and of sounds from audio prompts."""
    made = edits(clip, networks, seed, seconds, guidance, edit_steps, edit_atoms, changes)
    source_mel = networks.decode(made.pop("source"))
    source_wave = networks.synthesise(source_mel)
    source = networks.clap_audio(source_wave)
    target = networks.clap_text(other_prompt(clip))
    for stage, latents in made.items():
        mel = networks.decode(latents)
        heard = networks.clap_audio(networks.synthesise(mel))
        row = Row(rows, clip, "ddcm", stage)
        row.add("target_score", float(heard[0] @ target[0]), "1")
        row.add("source_clap", float(heard[0] @ source[0]), "1")
        follows = correlate(source_mel, mel, "log-mel", remove="bins")
        row.add("source_correlation", float(follows[0]), "1")
    # The codes are chance's, and the same for all prompts.
    frames, caption = source_mel.shape[1] // 4, clip.caption or ""
    model = _coder(networks, frames, seed, edit_steps, 1)
    for stage, conditioning, scale in (
        ("audio prompt", networks.embed_audio(source_wave.cpu(), [caption], ""), guidance),
        ("caption", networks.embed([caption], ""), guidance),
        ("no prompt", networks.embed([""], ""), 1.0),
    ):
        codes = model.generate(
            frames,
            networks.denoiser(conditioning, scale),
            seeds=[clip_seed(clip, seed)],
            device=networks.device,
        )
        sound = networks.clap_audio(networks.synthesise(networks.decode(codes.latents)))
        Row(rows, clip, "ddcm-random", stage).add("source_clap", float(sound[0] @ source[0]), "1")


def edit_curve(table: pd.DataFrame) -> pd.DataFrame:
    """Target score over likeness to the source, one point a step of change."""
    rows = table[table["stage"].str.startswith("change")]
    target = summarise(select(rows, metric="target_score"), by=("method", "stage"))
    source = summarise(select(rows, metric="source_correlation"), by=("method", "stage"))
    source = source[["stage", "mean"]].rename(columns={"mean": "source_correlation"})
    return target.merge(source, on="stage")


def edit_effects(table: pd.DataFrame, changes: Sequence[float]) -> dict[str, Interval | None]:
    """Mean differences over clips, by key of the claim that each is above zero.

    7: the new prompt is heard, where it is there from the first step on; 8: the source stays,
    where it comes never; 9: a clip's own sound as a prompt comes nearer to it than its caption.
    """
    early, never = (of("ddcm", change_name(at(changes))) for at in (min, max))
    sound, words = (of("ddcm-random", name) for name in ("audio prompt", "caption"))
    return {
        "claim_7": difference(table, early, never, "target_score"),
        "claim_8": difference(table, never, early, "source_correlation"),
        "claim_9": difference(table, sound, words, "source_clap"),
    }
