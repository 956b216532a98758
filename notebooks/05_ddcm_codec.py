# ---
# jupyter:
#   audioldm_utils:
#     tiny:
#       fresh: 1
#   jupytext:
#     cell_metadata_filter: tags,mystnb
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,audioldm_utils,-jupytext.text_representation
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
# **The question:** how much of a clip comes back at which rate, and which part of the codec earns
# it? **What would change our mind** that the choices carry the clip: an error that does not fall
# as the rate rises. That the diffusion model is worth its calls: a linear denoiser, or a plain
# quantiser of the same latents, that does as well.

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips: any format, rate and length
checkpoint: str = "mini"  # `mini`, a checkpoint folder, or a hub id
out_dir: str = "build/results/05_ddcm_codec"  # where tables and audio are written
evidence_dir: str = "book/evidence"  # committed tables that findings rest on
seed: int = 0  # of codebooks and starting noise
limit: int = 0  # use only so many clips; 0 for all
fresh: int = 1  # clips that are measured where the evidence holds none of them; 0 for all

# %% tags=["remove-input"]
from pathlib import Path

import pandas as pd
import torch

from audioldm_utils.audio.clips import load_clip, to_model_rate
from audioldm_utils.audio.survey import NO_CLASS, usable_clips
from audioldm_utils.book.listening import Row, Take, abx, players
from audioldm_utils.book.plotting import (
    figure_caption,
    glue_value,
    plain_table,
    points_with_intervals,
    rate_quality,
    style,
)
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.placement import load_rules
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Stages
from audioldm_utils.results import summaries as results
from audioldm_utils.studies import rate_curves as rates
from audioldm_utils.studies.codecs import PURSUIT_RATES
from audioldm_utils.studies.drift import read_drift
from audioldm_utils.studies.entropy import codes_entropy
from audioldm_utils.studies.rates import LOW_SECONDS, RATES, SECONDS, STEPS, family, payable
from audioldm_utils.studies.run import measure

# %% tags=["remove-input"]
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
# of one normal vector a step under a fixed mask of signs; one FFT correlation chooses among them
# (chapter «Codebooks»). No prompt is used. A rate counts every byte of the file, header and
# checksum included.

# %% tags=["remove-input", "remove-output"]
# One of the evidence's clips is measured again; the other studies run the same code.
STUDIES = {"05_rates": 1, "05_placement": 0, "05_codebooks": 0, "05_mixtures": 0}
given = (clips, checkpoint, {"seed": seed}, out_dir, evidence_dir)
judged = {name: measure(name, *given, most=most, own=fresh) for name, most in STUDIES.items()}
found = judged["05_rates"].table
together = pd.concat([study.table for study in judged.values()], ignore_index=True)
about = (
    f"n = {judged['05_rates'].n}; {judged['05_rates'].source}; checkpoint {checkpoint}; seed {seed}"
)

# %% tags=["remove-input", "remove-output"]
glue_value("n", judged["05_rates"].n, "d")
glue_value("n_codebooks", judged["05_codebooks"].n, "d")
glue_value("rests", judged["05_rates"].rests)
glue_value("seconds", SECONDS, ".2f", "s")
glue_value("low_seconds", LOW_SECONDS, ".2f", "s")
glue_value("steps", STEPS, "d")

# %% [markdown]
# Measured on the first {glue:text}`seconds` of every clip, with at most
# {glue:text}`steps` network calls. {glue:text}`rests` At the lowest rate
# {glue:text}`low_seconds` are coded, since the header would take all of a shorter file; the
# same beginning is judged. Clips that are too short even for that have no point there.
#
# ## Listen
#
# The clip, through VAE and vocoder alone, and decoded from files of falling rate.

# %% tags=["remove-input"]
codec = Codec(stages)
rows, files, pairs = [], [], []
measured = set(judged["05_rates"].run["clip"])
for info in sorted(clips, key=lambda info: info.name not in measured)[:2]:
    wave = to_model_rate(load_clip(info, max_seconds=SECONDS))
    vae = stages.reconstruct_vae(torch.from_numpy(wave)[None])[0].numpy()
    takes = [Take("original", wave, 16000), Take("vae", vae, 16000)]
    for rate, encoded in payable(codec, wave, (5.0, 1.0, 0.5), Settings(steps=STEPS, seed=seed)):
        heard = codec.waveform(encoded.codes.latents, encoded.header)
        takes.append(Take("ddcm", heard, 16000, f"DDCM, {rate:g} kbit/s"))
        files.append(encoded.data)
    rows.append(Row(info.name, takes, info.caption or ""))
    pairs.append((info.name, takes[1], takes[2]))
players(rows, Path(out_dir) / "listening", f"Falling rates; checkpoint {checkpoint}.")

# %% [markdown]
# ## Rate and quality
#
# The error of the decoded latents' mel against the clip's own mel. The VAE's own error is the
# ceiling, since the codec codes latents and cannot be better than they are. The residual
# quantiser codes the same latents without diffusion, by stages of a fitted codebook; it is
# charged the same header. The linear denoiser is the same codec with the best linear estimate in
# the network's place.

# %% tags=["remove-input", "remove-output"]
summary = results.summarise(found, by=("method", "stage", "metric"))
value = summary.set_index(["method", "stage", "metric"])["mean"]
stages_of = [f"{rate:g} kbit/s" for rate in RATES]
stages_of = [stage for stage in stages_of if ("ddcm", stage, "rate") in value]
errors = rates.over_rate(together[together["stage"].str.contains("kbit|stages")], "mel_error",
                         ("ddcm", "ddcm-uniform", "ddcm-pursuit", "rvq", "linear"))  # fmt: skip
ceiling = value["vae", "", "mel_error"]
glue_value("vae_nat", ceiling, ".3f", "nat")
for key, stage in (("low", stages_of[0]), ("high", stages_of[-1])):
    glue_value(f"rate_{key}", value["ddcm", stage, "rate"], ".2g", "kbit/s")
    glue_value(f"error_{key}", value["ddcm", stage, "mel_error"], ".2f", "nat")
    glue_value(f"correlation_{key}", value["ddcm", stage, "latent_correlation"], ".2f")
    glue_value(f"calls_{key}", value["ddcm", stage, "network_calls"], ".0f")

# %% tags=["remove-input"]
axes = rate_quality(
    errors, "mean absolute log-mel error, nat (less is better)", ceilings={"vae": ceiling}
)
figure_caption(
    axes.figure,
    "fig-rates",
    "Error of the decoded mel over the true rate of the file, mean over clips with 95 % interval; "
    f"the line is the VAE without coding. {about}.",
    "Falling curves of error over a logarithmic axis of rate, above the line of the VAE alone.",
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
steps = results.neighbours(found, "ddcm", stages_of, "mel_error")
glue_value("worst_p", steps["p, Holm"].max(), ".2g")
falls = bool((steps["difference, nat"] < 0).all())
glue_value("verdict", "falls at every step" if falls else "does not fall at every step")

# %% tags=["remove-input"]
plain_table(steps)

# %% [markdown]
# The mean error {glue:text}`verdict` up in rate; the largest p-value, corrected for the number of
# steps, is {glue:text}`worst_p`.
#
# ## As heard: beside Opus and MP3
#
# Waveforms at 16 kHz against the clip's. Ogg Opus {cite:p}`valin2012opus` and MP3 are those that
# libsndfile writes, at their lowest rates; a curve over the payload leaves out Opus' container,
# which takes much of so short a file. The lines are ceilings: the VAE with its vocoder, and the
# true mel with Griffin-Lim {cite:p}`griffin1984signal`. ViSQOL {cite:p}`chinen2020visqol` hardly
# hears phase, waveform codecs keep it; neither measure alone settles which sounds better.

# %% tags=["remove-input"]
import matplotlib.pyplot as plt

SHOWN = {
    "log_mel_distance": "log-mel distance, dB (less is better)",
    "multi_resolution_stft": "multi-resolution STFT distance (less is better)",
    "visqol": "ViSQOL, MOS (more is better)",
}
figure, panels = plt.subplots(3, 1, figsize=(7.2, 11.5))
for panel, (metric, label) in zip(panels, SHOWN.items(), strict=True):
    curve = rates.over_rate(found, metric, ("ddcm", "rvq", "opus", "mp3"), "payload_rate")
    tops = {m: value.get((m, "", metric)) for m in ("vae", "mel-griffinlim")}
    tops = {method: top for method, top in tops.items() if top is not None}
    rate_quality(curve, label, axes=panel, ceilings=tops)
    panel.set_xlabel("payload rate, kbit/s")
figure_caption(
    figure,
    "fig-heard",
    "Three measures of the waveform over the rate of the payload (no header, no container), mean "
    f"with 95 % interval. {about}.",
    "Three panels of curves over rate: DDCM and the residual quantiser at low rates, Opus and MP3 "
    "at higher ones.",
)

# %% tags=["remove-input"]
wide = summary[summary["metric"].isin(["rate", "payload_rate", *SHOWN])]
wide = wide[wide["method"].isin(["ddcm", "rvq", "opus", "mp3", "vae", "mel-griffinlim"])]
wide = wide.assign(method=wide["method"] + ", " + wide["stage"].replace("", "no bits counted"))
results.tabulate(wide.drop(columns="stage"), digits=2)

# %% [markdown]
# ## Which part earns it?
#
# One part is changed at a time, at equal rate. A Bjøntegaard delta (BD-rate) is the rate that one
# codec needs beyond another at equal error, over the range that both cover; less than zero saves.
#
# - **Placement.** The steps lie where `audioldm-utils fit --parts placement` found them best for
#   each rate on train clips, against uniform timesteps.
# - **Several atoms.** Cyclic shifts against the paper's matching pursuit (its number of
#   entries, quantised coefficients), at equal network calls.
# - **Diffusion.** DDCM against the residual quantiser of the same latents.

# %% tags=["remove-input", "remove-output"]
by_stage = {key: [f"{rate:g} kbit/s" for rate in chosen] for key, chosen in (
    ("high", (1.0, 2.0, 5.0)), ("low", (0.2, 0.5, 1.0)), ("several", (0.2, 0.5, 1.0, 2.0)),
    ("pursuit", PURSUIT_RATES))}  # fmt: skip
quantised = sorted(set(found[found["method"] == "rvq"]["stage"]), key=lambda s: int(s.split()[0]))
deltas = {
    "placement_high": ("ddcm", "ddcm-uniform", by_stage["high"]),
    "placement_low": ("ddcm", "ddcm-uniform", by_stage["low"]),
    "pursuit": (
        "ddcm",
        "ddcm-pursuit",
        {"ddcm": by_stage["several"], "ddcm-pursuit": by_stage["pursuit"]},
    ),
    "rvq": ("ddcm", "rvq", {"ddcm": stages_of[1:], "rvq": quantised}),
}
for key, (a, b, where) in deltas.items():
    deltas[key] = rates.delta_or_none(together, a, b, "mel_error", where)
    glue_value(f"bd_{key}", rates.delta_text(deltas[key]))

# %% tags=["remove-input"]
asked = {
    "placement against uniform timesteps, 1 to 5 kbit/s": "placement_high",
    "the same, 0.2 to 1 kbit/s": "placement_low",
    "cyclic shifts against matching pursuit": "pursuit",
    "DDCM against the residual quantiser": "rvq",
}
compared = pd.DataFrame(
    [
        {"comparison": text, "BD-rate, log-mel error": rates.delta_text(deltas[key]),
         "clips": deltas[key].n if deltas[key] else 0}
        for text, key in asked.items()
    ]
)  # fmt: skip
plain_table(compared)

# %% [markdown]
# What the placement does to the rate that is needed: at the higher rates
# {glue:text}`bd_placement_high`, at the lower ones {glue:text}`bd_placement_low` (the table says
# which). The reason: at low rates the few choices must decide the coarse structure, which real
# latents do at the noisiest steps, where uniform timesteps already lie; at high rates the structure
# is soon settled, and what is left to code is fine detail, for which uniform timesteps have too few
# steps near the clean latents. Cyclic shifts against matching pursuit: {glue:text}`bd_pursuit`;
# DDCM against the residual quantiser: {glue:text}`bd_rvq`.

# %% tags=["remove-input"]
rules = load_rules(stages.checkpoint.path, stages.checkpoint.fingerprint)
plain_table(pd.DataFrame(rules, columns=["below bits a value", "placement", "power", "stop"]))

# %% [markdown]
# The placements in use, by the bits of a latent value. Further questions are asked at single
# points: what the network is worth, and whether one large choice a step replaces several small
# ones.

# %% tags=["remove-input", "remove-output"]
POINTS = {
    "network against linear denoiser, 0.5 kbit/s": (
        ("ddcm", "0.5 kbit/s"), ("linear", "0.5 kbit/s")),
    "one atom of all shifts against one of 1024 independent": (
        ("ddcm", "one atom of shifts"), ("ddcm-gaussian", "one atom of 1024")),
}  # fmt: skip
points = rates.at_points(together, POINTS, "mel_error")
calls = together[together["metric"] == "network_calls"].groupby("stage")["value"].mean()
saved = 1 - calls.get("one atom of shifts", 0) / calls.get("one atom of 1024", 1)
glue_value("saved", 100 * saved, ".0f", "%")
for key, question in zip(("linear", "one"), POINTS, strict=True):
    glue_value(f"point_{key}", rates.point_text(points, question))
classes = found.drop_duplicates("clip").set_index("clip")["class"]
glue_value("by_class", "The same rates by broad class of sound." if classes.any() else NO_CLASS)

# %% tags=["remove-input"]
plain_table(points.rename(columns={"first": "first, nat", "second": "second, nat"}))

# %% [markdown]
# With one atom a step and equal bits, a cyclic codebook of a few bases takes {glue:text}`saved`
# fewer network calls than the paper's independent atoms; the error changes by
# {glue:text}`point_one`. Against the linear denoiser the network's error changes by
# {glue:text}`point_linear`.
#
# ## By class and by complexity
#
# {glue:text}`by_class` And one clip mixed with a second and a third, of other classes if there are
# any, all equally loud, at one rate.

# %% tags=["remove-input"]
shown = None
if classes.any():
    grouped = rates.by_group(found, "ddcm", "mel_error", classes.map(family).to_dict())
    grouped = grouped[grouped["stage"].isin(["0.5 kbit/s", "2 kbit/s"])]
    axes = points_with_intervals(
        grouped.assign(stage="DDCM, " + grouped["stage"]),
        "log-mel error, nat (less is better)",
        category="group",
        series="stage",
    )
    shown = figure_caption(
        axes.figure,
        "fig-codec-classes",
        f"Error by broad class at two rates, mean with 95 % interval over clips. {about}.",
        "Points with intervals, one row a class: the error differs between classes less than "
        "between rates, or more, as the axis shows.",
    )
shown

# %% tags=["remove-input"]
mixed = results.summarise(judged["05_mixtures"].table, by=("method", "stage", "metric"))
mixed = mixed[mixed["metric"] == "mel_error"].assign(
    order=lambda t: t["stage"].map({"one clip": 0, "pair": 1, "triple": 2})
)
mixed = mixed.sort_values(["order", "method"])
axes = points_with_intervals(
    mixed, "log-mel error, nat (less is better)", category="stage", series="method"
)
figure_caption(
    axes.figure,
    "fig-mixtures",
    "Error by complexity: a clip alone, mixed with a second, and with a third, at one rate, and "
    f"the VAE's own. n = {judged['05_mixtures'].n} mixtures of each; checkpoint {checkpoint}.",
    "Points with intervals in three rows, one clip, pair and triple, for DDCM and for the VAE.",
)

# %% [markdown]
# ## Speed, and what is left to code
#
# Seconds of processor time for a second of sound, and the entropy of the indices: how many
# bits an entropy coder could still save.

# %% tags=["remove-input", "remove-output"]
timing = together[together["metric"].isin(["encode_seconds", "synthesis_seconds"])]
timing = timing[timing["stage"] == "1 kbit/s"].groupby("metric")["value"].mean() / SECONDS
glue_value("encode_time", timing.get("encode_seconds", float("nan")), ".1f", "s")
glue_value("synthesis_time", timing.get("synthesis_seconds", float("nan")), ".2f", "s")
left = codes_entropy(codec, files)
glue_value("entropy_saving", left.saving, ".3f", "bit")
glue_value("entropy_bits", left.bits, ".1f", "bit")
glue_value("entropy_count", left.count, "d")
drift, drift_error = read_drift(evidence_dir, stages.checkpoint.fingerprint)
glue_value("drift", drift)
glue_value("drift_error", drift_error)
glue_value("entropy_p", left.p_uniform, ".2g")

# %% tags=["remove-input"]
indices = pd.DataFrame(
    {
        "indices": [left.count], "bits of an index": [left.bits],
        "saving of their histogram, bits": [left.saving], "p, uniform": [left.p_uniform],
        "saving by the index before, bits": [left.memory], "p, independent": [left.p_independent],
    }
)  # fmt: skip
plain_table(indices, 4)

# %% [markdown]
# Encoding takes {glue:text}`encode_time` of processor time for each second of sound, nearly all of
# it in the network; decoding replays the same calls without the choice, and then VAE and vocoder
# take {glue:text}`synthesis_time`. Of {glue:text}`entropy_bits` an index, the histogram of
# {glue:text}`entropy_count` indices could save {glue:text}`entropy_saving`
# (p = {glue:text}`entropy_p` for uniform indices).
#
# A file that is decoded in a batch, or with another number of threads than it was encoded with,
# meets other roundings; each step carries them on. The largest change of the decoded mel that
# `benchmarks/ddcm_drift.py` found is {glue:text}`drift`, against the codec's own error of
# {glue:text}`drift_error`.
#
# ## Published codecs
#
# Numbers from one paper's own table {cite:p}`liu2024semanticodec`, for orientation: other sounds,
# other references, and a mel measure of its own. They must not be compared with the figures above.

# %% tags=["remove-input"]
published = pd.read_csv(Path(evidence_dir) / "published_codecs.csv")
plain_table(published, 2)

# %% [markdown]
# EnCodec is {cite:t}`defossez2023encodec`, DAC {cite:t}`kumar2023dac`.
#
# ## Can you hear it?
#
# X is the VAE alone, or DDCM at the highest rate; which?

# %% tags=["remove-input"]
abx(pairs, Path(out_dir) / "listening", trials=8)

# %% [markdown]
# ## Limits
#
# `mini`'s denoiser is small and was trained briefly; a better denoiser predicts more of the clip
# by itself and leaves less to the bits. The correlation of latents counts what every clip has in
# common, such as the spectrum's slope, and so starts above zero for no bits at all. Excerpts are
# short, and a header weighs more on them than on longer sound. Errors on another machine can
# differ a little, since one flipped choice moves all that follow.
#
# ## Next
#
# The tables are among the downloads of the execution page; `audioldm-utils encode` makes files of
# your own sound, by rate or by `--mel-error`.
