"""Study ``06_editing``: a clip's codes under another prompt, and clips as prompts.

Editing: a clip is encoded under its own caption and decoded under it as well, but from one of
`CHANGES` of the steps on under a target prompt, with guidance, while the codes stay. The
earlier the change, the more of the target and the less of the source should be heard.

Audio prompts: the clip's CLAP embedding takes the place of a text's, and random codes make a
new sound; it should be nearer to the clip than what no prompt makes.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch

from audioldm_utils.audio.clips import Clip, fit_length, to_model_rate
from audioldm_utils.ddcm import codebook as codebooks
from audioldm_utils.ddcm.core import DDCM
from audioldm_utils.metrics.correlations import correlate
from audioldm_utils.model.networks import normalise
from audioldm_utils.model.schedule import Schedule
from audioldm_utils.studies.verification import other_prompt

if TYPE_CHECKING:
    from audioldm_utils.model.networks import Stages
    from audioldm_utils.results.tables import ResultsBuilder

SECONDS, STEPS, GUIDANCE, ATOMS = 1.28, 20, 3.5, 4
#: From which share of the steps on the target prompt is used; 1: never.
CHANGES = (0.0, 0.25, 0.5, 0.75, 1.0)


def coder(stages: Stages, frames: int, seed: int, atoms: int = ATOMS) -> DDCM:
    """Cyclic-shift DDCM of `STEPS` calls for ``frames`` latent frames."""
    schedule = Schedule.from_config(stages.checkpoint.scheduler_config, STEPS)
    return DDCM(schedule, codebooks.make("cyclic", (8, frames, 16), seed, bases=1), atoms)


def edits(clip: Clip, stages: Stages, seed: int) -> dict[float, torch.Tensor]:
    """Share of the steps before the change to decoded latents; the source's own under -1."""
    count = round(SECONDS * stages.mel_config.sample_rate)
    wave = torch.from_numpy(fit_length(to_model_rate(clip), count))[None]
    latents = stages.encode(stages.to_mel(normalise(wave)[0]))
    model = coder(stages, latents.shape[2], seed)
    source = stages.denoiser(stages.embed([clip.caption or ""]))
    target = stages.denoiser(stages.embed([other_prompt(clip)], ""), GUIDANCE)
    codes = model.encode(latents, source)
    found = {-1.0: latents}
    for share in CHANGES:
        step = round(share * STEPS)
        edit = None if step >= STEPS else (step, target)
        found[share] = model.decode(codes, source, edit=edit)
    return found


def study(clip: Clip, stages: Stages, rows: ResultsBuilder, seed: int) -> None:
    """Likeness to target prompt and to source of each edit, and of sounds from audio prompts."""

    def add(method: str, stage: str, metric: str, value: float) -> None:
        rows.add(clip.name, metric, value, "1", category=clip.category, method=method, stage=stage)

    made = edits(clip, stages, seed)
    source_mel = stages.decode(made.pop(-1.0))
    source = stages.clap_audio(stages.vocode(source_mel))
    target = stages.clap_text(other_prompt(clip))
    for share, latents in made.items():
        mel = stages.decode(latents)
        heard = stages.clap_audio(stages.vocode(mel))
        stage = f"change at {share:.0%}"
        add("ddcm", stage, "target_score", float(heard[0] @ target[0]))
        add("ddcm", stage, "source_clap", float(heard[0] @ source[0]))
        follows = correlate(source_mel, mel, "log-mel", remove_bin_mean=True)
        add("ddcm", stage, "source_correlation", float(follows[0]))
    # The codes are chance's, and the same for all prompts.
    model = coder(stages, source_mel.shape[1] // 4, seed, atoms=1)
    wave = stages.vocode(source_mel).cpu()
    heard_clip = stages.embed_audio(wave, [clip.caption or ""], "")
    nothing = stages.embed([""], "")
    for stage, conditioning in (
        ("audio prompt", heard_clip),
        ("caption", stages.embed([clip.caption or ""], "")),
        ("no prompt", nothing),
    ):
        guidance = 1.0 if stage == "no prompt" else GUIDANCE
        codes = model.generate(
            source_mel.shape[1] // 4,
            stages.denoiser(conditioning, guidance),
            seeds=[seed * 2**32 + zlib.crc32(clip.name.encode())],
            device=stages.device,
        )
        sound = stages.clap_audio(stages.vocode(stages.decode(codes.latents)))
        add("ddcm-random", stage, "source_clap", float(sound[0] @ source[0]))
