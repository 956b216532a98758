# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # DDCM as a codec
#
# A diffusion model makes sound by removing noise step by step, and adds fresh noise at every
# step but the last. Denoising Diffusion Codebook Models {cite:p}`ohayon2025ddcm` take that
# noise from a codebook that the decoder has too. Whoever knows which entry was taken at each step
# can repeat the whole run; and if the entries are chosen to lead towards a given clip, their
# indices are a compressed file of it.
#
# **The question:** how much of a clip comes back at which rate? **What would change our mind**
# that the choices carry the clip: an error that does not fall as the rate rises.

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips: any format, rate and length
checkpoint: str = "mini"  # `mini`, a checkpoint folder, or a hub id
out_dir: str = "build/results/05_ddcm_codec"  # where tables and audio are written
evidence_dir: str = "book/evidence"  # committed tables that findings rest on
seed: int = 0  # of codebooks and starting noise
limit: int = 0  # use only so many clips; 0 for all

# %% tags=["remove-input"]
from pathlib import Path

import torch

from audioldm_utils import results
from audioldm_utils.audio import load_clip, to_model_rate
from audioldm_utils.checkpoint import load
from audioldm_utils.clips import usable_clips
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.ddcm.study import RATES, SECONDS, STEPS
from audioldm_utils.listening import Row, Take, players
from audioldm_utils.plotting import figure_caption, glue_value, rate_quality, style
from audioldm_utils.stages import Stages
from audioldm_utils.studies import findings, run_study

style()
clips = usable_clips(audio_dir, limit)
stages = Stages(load(checkpoint))

# %% [markdown]
# ## Method
#
# With the reverse step's mean $\mu_i$ and spread $\sigma_i$,
#
# $$x_{i-1} = \mu_i(x_i) + \sigma_i\, C_i(k_i), \qquad
#   k_i = \arg\max_k \langle C_i(k),\, x_0 - \hat x_{0|i} \rangle ,$$
#
# where $\hat x_{0|i}$ is what the denoiser believes the clean latents to be. The last step adds no
# noise, and $x_T$ comes from a seed. The codebooks here are all cyclic shifts, with both signs,
# of one normal vector a step under a fixed mask of signs; one FFT correlation chooses among them.
# No prompt is used. A rate counts every byte of the file, header and checksum included.

# %% tags=["remove-input", "remove-output"]
# One of the evidence's clips is measured again; a reader's own are measured one and all.
table = run_study("05_rates", clips, checkpoint, seed, evidence_dir=evidence_dir, most=1)
results.write(table, Path(out_dir) / "rates")
judged = findings(table, clips, "05_rates", evidence_dir)
about = f"n = {judged.n}; {judged.source}; checkpoint {checkpoint}; seed {seed}"
glue_value("n", judged.n, "d")
glue_value("source", judged.source)
glue_value("seconds", SECONDS, ".2f", "s")
glue_value("steps", STEPS, "d")

# %% [markdown]
# Measured on the first {glue:text}`seconds` of every clip, with at most
# {glue:text}`steps` network calls: {glue:text}`n` clips, {glue:text}`source`.
#
# ## Listen
#
# The clip, through VAE and vocoder alone, and decoded from files of falling rate.

# %% tags=["remove-input"]
codec = Codec(stages)
rows = []
measured = results.select(table, metric="rate")
for info in [info for info in clips if info.name in set(measured["clip"])][:2]:
    clip = load_clip(info, max_seconds=SECONDS)
    paid = set(results.select(measured, clip=clip.name)["stage"])
    rates = [rate for rate in RATES if f"{rate:g} kbit/s" in paid]
    wave = to_model_rate(clip)
    vae = stages.reconstruct_vae(torch.from_numpy(wave)[None])[0].numpy()
    takes = [Take("original", wave, 16000), Take("vae", vae, 16000)]
    for rate in sorted({rates[-1], rates[len(rates) // 2], rates[0]}, reverse=True):
        file = codec.encode(wave, Settings(kbps=rate, steps=STEPS, seed=seed)).data
        decoded = codec.decode(file)
        takes.append(Take("ddcm", decoded.samples, decoded.sample_rate, f"DDCM, {rate:g} kbit/s"))
    rows.append(Row(clip.name, takes, clip.caption or ""))
players(rows, Path(out_dir) / "listening", f"Falling rates; checkpoint {checkpoint}.")

# %% [markdown]
# ## Rate and quality
#
# The error of the decoded latents' mel against the clip's own mel; the VAE's own error is the
# ceiling, since the codec codes latents and cannot be better than they are.

# %% tags=["remove-input", "remove-output"]
summary = results.summarise(judged.table, by=("method", "stage", "metric"))
value = summary.set_index(["method", "stage", "metric"])["mean"]
stages_of = [f"{rate:g} kbit/s" for rate in RATES]
stages_of = [stage for stage in stages_of if ("ddcm", stage, "rate") in value]
errors = summary[(summary["method"] == "ddcm") & (summary["metric"] == "mel_error")].copy()
errors["kbps"] = [value["ddcm", stage, "rate"] for stage in errors["stage"]]
errors = errors.sort_values("kbps")
ceiling = value["vae", "", "mel_error"]
glue_value("vae_nat", ceiling, ".3f", "nat")
for key, stage in (("low", stages_of[0]), ("high", stages_of[-1])):
    glue_value(f"rate_{key}", value["ddcm", stage, "rate"], ".2g", "kbit/s")
    glue_value(f"error_{key}", value["ddcm", stage, "mel_error"], ".2f", "nat")
    glue_value(f"correlation_{key}", value["ddcm", stage, "latent_correlation"], ".2f")
    glue_value(f"calls_{key}", value["ddcm", stage, "network_calls"], ".0f")

# %% tags=["remove-input"]
axes = rate_quality(
    errors, "mean absolute log-mel error, nat (less is better)", x="kbps", ceilings={"vae": ceiling}
)
figure_caption(
    axes.figure,
    "fig-rates",
    "Error of the decoded mel over the true rate of the file, mean over clips with 95 % interval; "
    f"the line is the VAE without diffusion. {about}.",
    "A falling curve of error over a logarithmic axis of rate, above the line of the VAE alone.",
)

# %% [markdown]
# At {glue:text}`rate_low` the error is {glue:text}`error_low` and the latents correlate with the
# input's at {glue:text}`correlation_low`; at {glue:text}`rate_high` they stand at
# {glue:text}`error_high` and {glue:text}`correlation_high`. The VAE alone leaves
# {glue:text}`vae_nat`.
#
# ## Does every step up the rate help?
#
# Paired differences over clips between neighbouring rates.

# %% tags=["remove-input", "remove-output"]
steps = results.neighbours(judged.table, "ddcm", stages_of, "mel_error")
glue_value("worst_p", steps["p, Holm"].max(), ".2g")
falls = bool((steps["difference, nat"] < 0).all())
glue_value("verdict", "falls at every step" if falls else "does not fall at every step")

# %% tags=["remove-input"]
steps.style.format(precision=3).hide(axis="index")

# %% [markdown]
# The mean error {glue:text}`verdict` up in rate; the largest p-value, corrected for the number of
# steps, is {glue:text}`worst_p`.
#
# ## Limits
#
# `mini`'s denoiser was trained for about an hour on a processor; a better denoiser predicts more
# of the clip by itself and leaves less to the bits. The correlation of latents counts what
# every clip has in common, such as the spectrum's slope, and so starts above zero for no bits at
# all. Neither says how a file sounds; the players do.
#
# ## Next
#
# The tables are among the downloads of the execution page; `audioldm-utils encode` makes files of
# your own sound.
