# ---
# jupyter:
#   audioldm_utils:
#     tiny:
#       new_clips: 1
#       paper_steps: 12
#       rates:
#       - 1.0
#       - 4.0
#       seconds: 1.28
#       steps: 5
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
synthesis: str = "auto"  # of the mel: auto, vocoder, griffin-lim or inverse
limit: int = 0  # use only so many clips; 0 for all
new_clips: int = 1  # clips that are measured where the evidence holds none of them; 0 for all
seconds: float = 2.56  # of a clip's beginning that is coded
steps: int = 25  # network calls of a file, at most
rates: list[float] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0]  # kbit/s; a file never exceeds its rate
low_rate: float = 0.1  # up to this rate, kbit/s, `low_seconds` are coded
low_seconds: float = 5.12  # judged on the same beginning: a header takes most of a shorter file
rvq_stages: list[int] = [1, 2, 4, 9, 18]  # of the residual quantiser
pursuit_rates: list[float] = [0.4, 0.7, 1.2]  # kbit/s of the paper's matching pursuit
linear_rates: list[float] = [0.5, 1.0]  # kbit/s with a linear denoiser in the network's place
paper_steps: int = 65  # network calls with one atom of the paper's 1024 a step
bases: int = 4  # of the cyclic codebook that spends the same bits in fewer calls
mixture_rate: float = 1.0  # kbit/s of clips that are mixed
heard_rates: list[float] = [5.0, 1.0, 0.5]  # kbit/s that are played

# %% tags=["hide-input"]
from itertools import pairwise
from pathlib import Path

import pandas as pd
import torch

from audioldm_utils.audio.clips import load_clip, to_model_rate
from audioldm_utils.audio.survey import NO_CLASS, usable_clips
from audioldm_utils.book.listening import Row, Take, abx, players
from audioldm_utils.book.plotting import (
    figure_caption,
    glue_table,
    glue_value,
    plain_table,
    points_with_intervals,
    rate_quality,
    style,
)
from audioldm_utils.bounds import as_lists
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.placement import load_rules
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Networks
from audioldm_utils.results import summaries as results
from audioldm_utils.studies import rate_curves
from audioldm_utils.studies.drift import read_drift
from audioldm_utils.studies.entropy import codes_entropy
from audioldm_utils.studies.rates import family, payable
from audioldm_utils.studies.run import measure

# %% tags=["hide-input"]
style()
# papermill's -p hands lists over as text.
lists = as_lists(rates, rvq_stages, pursuit_rates, linear_rates, heard_rates)
rates, rvq_stages, pursuit_rates, linear_rates, heard_rates = lists
clips = usable_clips(audio_dir, limit)
networks = Networks(load(checkpoint), synthesis=synthesis)

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

# %% tags=["show-input"]
coded = {"seed": seed, "synthesis": synthesis, "seconds": seconds, "steps": steps}
swept = {"rates": rates, "low_rate": low_rate}
grids = {
    "05_rates": {**coded, **swept, "low_seconds": low_seconds, "rvq_stages": rvq_stages},
    "05_placement": {**coded, **swept},
    "05_codebooks": {
        **coded, "pursuit_rates": pursuit_rates, "linear_rates": linear_rates,
        "paper_steps": paper_steps, "bases": bases,
    },
    "05_mixtures": {**coded, "mixture_rate": mixture_rate},
}  # fmt: skip
place = {"out_dir": out_dir, "evidence_dir": evidence_dir, "new_clips": new_clips}
# One of the evidence's clips is measured again; the other studies run the same code.
judged = {
    name: measure(name, clips, checkpoint, grid, **place, recheck=int(name == "05_rates"))
    for name, grid in grids.items()
}

# %% tags=["hide-input", "remove-output"]
main = judged["05_rates"]
found, about = main.table, f"n = {main.n}; {main.source}; checkpoint {checkpoint}; seed {seed}"
together = pd.concat([study.table for study in judged.values()], ignore_index=True)
glue_value("n", main.n, "d")
glue_value("rests", main.rests)
glue_value("seconds", seconds, ".2f", "s")
glue_value("low_seconds", low_seconds, ".2f", "s")
glue_value("steps", steps, "d")

# %% [markdown]
# Measured on the first {glue:text}`seconds` of every clip, with at most
# {glue:text}`steps` network calls. {glue:text}`rests` At the lowest rate
# {glue:text}`low_seconds` are coded, since the header would take all of a shorter file; the
# same beginning is judged. Clips that are too short even for that have no point there.
#
# ## Listen
#
# The clip, through VAE and vocoder alone, and decoded from files of falling rate.

# %% tags=["hide-input"]
codec = Codec(networks)
rows, files, pairs = [], [], []
measured = set(main.run["clip"])
settings = Settings(steps=steps, seed=seed)
for info in sorted(clips, key=lambda info: info.name not in measured)[:2]:
    wave = to_model_rate(load_clip(info, max_seconds=seconds))
    vae = networks.reconstruct_vae(torch.from_numpy(wave)[None])[0].numpy()
    takes = [Take("original", wave, 16000), Take("vae", vae, 16000)]
    for rate, encoded in payable(codec, wave, heard_rates, settings):
        heard = codec.waveform(encoded.codes.latents, encoded.header)
        takes.append(Take("ddcm", heard, 16000, f"DDCM, {rate:g} kbit/s"))
        files.append(encoded.data)
    rows.append(Row(info.name, takes, info.caption or ""))
    if len(takes) > 2:
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

# %% tags=["hide-input", "remove-output"]
summary = results.summarise(found, by=("method", "stage", "metric"))
value = summary.set_index(["method", "stage", "metric"])["mean"]
above = {rate: f"{rate:g} kbit/s" for rate in sorted(rates) if rate > low_rate}
stages_of = [f"{rate:g} kbit/s" for rate in sorted(rates)]
stages_of = [s for s in stages_of if ("ddcm", s, "rate") in value] or stages_of
errors = rate_curves.over_rate(
    together[together["stage"].str.contains("kbit|stages")],
    "mel_error",
    ("ddcm", "ddcm-uniform", "ddcm-pursuit", "rvq", "linear"),
)
ceiling = value["vae", "", "mel_error"]
glue_value("vae_nat", ceiling, ".3f", "nat")
ends = summary[summary["method"] == "ddcm"].pivot(index="stage", columns="metric", values="mean")
ends = ends.reindex(
    [stages_of[0], stages_of[-1]], columns=["rate", "mel_error", "latent_correlation"]
).set_axis(["low", "high"])
glue_table(ends["rate"], "rate_{}", ".2g", "kbit/s")
glue_table(ends["mel_error"], "error_{}", ".2f", "nat")
glue_table(ends["latent_correlation"], "correlation_{}", ".2f")

# %% tags=["hide-input"]
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

# %% tags=["hide-input", "remove-output"]
stage = {name: {"method": "ddcm", "stage": name} for name in stages_of}
asked = {(low, high): (stage[high], stage[low]) for low, high in pairwise(stages_of)}
risen = results.differences(found, asked, "mel_error").drop(columns=["first", "second"])
glue_value("worst_p", risen["p, Holm"].max(), ".2g")
falls = bool((risen["difference"] < 0).all())
verdict = "falls at every step" if falls else "does not fall at every step"
glue_value("verdict", verdict if len(risen) else "of one rate says nothing of how it falls")

# %% tags=["hide-input"]
risen.insert(0, "from", [low for low, _ in risen.index])
risen.insert(1, "to", [high for _, high in risen.index])
plain_table(risen.rename(columns={"difference": "difference, nat"}))

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

# %% tags=["hide-input"]
import matplotlib.pyplot as plt

SHOWN = {
    "log_mel_distance": "log-mel distance, dB (less is better)",
    "multi_resolution_stft": "multi-resolution STFT distance (less is better)",
    "visqol": "ViSQOL, MOS (more is better)",
}
figure, panels = plt.subplots(3, 1, figsize=(7.2, 11.5))
for panel, (metric, label) in zip(panels, SHOWN.items(), strict=True):
    curve = rate_curves.over_rate(found, metric, ("ddcm", "rvq", "opus", "mp3"), "payload_rate")
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

# %% tags=["hide-input"]
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

# %% tags=["hide-input", "remove-output"]
half, names = len(above) // 2, list(above.values())
high, low, several = names[half:], names[: half + 1], names[:-1]
pursuit = [f"{rate:g} kbit/s" for rate in pursuit_rates]
quantised = sorted(set(found[found["method"] == "rvq"]["stage"]), key=lambda s: int(s.split()[0]))
deltas = {
    "placement_high": ("ddcm-uniform", {"ddcm": high, "ddcm-uniform": high}),
    "placement_low": ("ddcm-uniform", {"ddcm": low, "ddcm-uniform": low}),
    "pursuit": ("ddcm-pursuit", {"ddcm": several, "ddcm-pursuit": pursuit}),
    "rvq": ("rvq", {"ddcm": [s for s in names if s in stages_of], "rvq": quantised}),
}
for key, (other, where) in deltas.items():
    deltas[key] = rate_curves.delta_or_none(together, "ddcm", other, "mel_error", where)
    glue_value(f"bd_{key}", rate_curves.delta_text(deltas[key]))

# %% tags=["hide-input"]
span = [f"{part[0].split()[0]} to {part[-1]}" if part else "none" for part in (high, low)]
asked = {
    f"placement against uniform timesteps, {span[0]}": "placement_high",
    f"the same, {span[1]}": "placement_low",
    "cyclic shifts against matching pursuit": "pursuit",
    "DDCM against the residual quantiser": "rvq",
}
compared = pd.DataFrame(
    [
        {"comparison": text, "BD-rate, log-mel error": rate_curves.delta_text(deltas[key]),
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

# %% tags=["hide-input"]
rules = load_rules(networks.checkpoint.path, networks.checkpoint.fingerprint)
plain_table(pd.DataFrame(rules, columns=["below bits a value", "placement", "power", "stop"]))

# %% [markdown]
# The placements in use, by the bits of a latent value. Further questions are asked at single
# points: what the network is worth, and whether one large choice a step replaces several small
# ones.

# %% tags=["hide-input", "remove-output"]
at = next((rate for rate in linear_rates if rate in rates), linear_rates[0])
stage = [{"method": method, "stage": f"{at:g} kbit/s"} for method in ("ddcm", "linear")]
shifts = {"method": "ddcm", "stage": "one atom of shifts"}
paper = {"method": "ddcm-gaussian", "stage": "one atom of 1024"}
asked = {
    f"network against linear denoiser, {at:g} kbit/s": tuple(stage),
    "one atom of all shifts against one of 1024 independent": (shifts, paper),
}
points = results.differences(together, asked, "mel_error")
calls = together[together["metric"] == "network_calls"].groupby("stage")["value"].mean()
saved = 1 - calls.get("one atom of shifts", 0) / calls.get("one atom of 1024", 1)
glue_value("saved", 100 * saved, ".0f", "%")
for key, question in zip(("linear", "one"), asked, strict=True):
    glue_value(f"point_{key}", rate_curves.difference_text(points, question))
classes = found.drop_duplicates("clip").set_index("clip")["class"]
glue_value("by_class", "The same rates by broad class of sound." if classes.any() else NO_CLASS)

# %% tags=["hide-input"]
points = points.rename(columns={"first": "first, nat", "second": "second, nat"})
plain_table(points.reset_index(names="question"))

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

# %% tags=["hide-input"]
shown, chosen = None, list(dict.fromkeys(names[i] for i in (1, -2) if len(names) > 1)) or names
if classes.any():
    grouped = rate_curves.by_group(found, "ddcm", "mel_error", classes.map(family).to_dict())
    grouped = grouped[grouped["stage"].isin(chosen)]
    axes = points_with_intervals(
        grouped.assign(stage="DDCM, " + grouped["stage"]),
        "log-mel error, nat (less is better)",
        category="group",
        series="stage",
    )
    shown = figure_caption(
        axes.figure,
        "fig-codec-classes",
        f"Error by broad class at {' and '.join(chosen)}, mean with 95 % interval over clips. "
        f"{about}.",
        "Points with intervals, one row a class: the error differs between classes less than "
        "between rates, or more, as the axis shows.",
    )
shown

# %% tags=["hide-input"]
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

# %% tags=["hide-input", "remove-output"]
timing = together[together["metric"].isin(["encode_seconds", "synthesis_seconds"])]
timing = timing[timing["stage"].isin(names[half : half + 1])]
timing = timing.groupby("metric")["value"].mean() / seconds
glue_value("encode_time", timing.get("encode_seconds", float("nan")), ".1f", "s")
glue_value("synthesis_time", timing.get("synthesis_seconds", float("nan")), ".2f", "s")
left = codes_entropy(codec, files)
glue_value("entropy_saving", left.saving, ".3f", "bit")
glue_value("entropy_bits", left.bits, ".1f", "bit")
glue_value("entropy_count", left.count, "d")
drift, drift_error = read_drift(evidence_dir, networks.checkpoint.fingerprint)
glue_value("drift", drift)
glue_value("drift_error", drift_error)
glue_value("entropy_p", left.p_uniform, ".2g")

# %% tags=["hide-input"]
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

# %% tags=["hide-input"]
published = pd.read_csv(Path(evidence_dir) / "published_codecs.csv")
plain_table(published, 2)

# %% [markdown]
# EnCodec is {cite:t}`defossez2023encodec`, DAC {cite:t}`kumar2023dac`.
#
# ## Can you hear it?
#
# X is the VAE alone, or DDCM at the highest rate; which?

# %% tags=["hide-input"]
abx(pairs, Path(out_dir) / "listening", trials=8) if pairs else "No clip pays for such a file."

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
