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
# :::{admonition} The answer
# :class: tip
# **Question.** How much of a clip does DDCM bring back at which rate, and is it nearer to the clip
# than plain ways of the same rate?
#
# {glue:text}`answer` At equal rate its mel error is, beside a residual quantiser of the same
# latents, {glue:text}`ranges`.
#
# What would change our mind, and what was found:
#
# - The choices carry the clip: the mel error falls at every step up the rate.
#   **{glue:text}`claim_1`**
# - By mel error DDCM beats a residual quantiser at equal rate. **{glue:text}`claim_2`**
#   {glue:text}`where_2`
# - By mel error DDCM beats the same codec with a linear denoiser. **{glue:text}`claim_3`**
#   {glue:text}`where_3`
# - By mel error DDCM beats noise of the clip's own envelope at the noise's rate.
#   **{glue:text}`claim_4`** By the STOI of speech, see «As heard»; by correlation, see
#   «Does the output really follow the input?».
# - Every measure of the heard sound improves at every step from {glue:text}`heard_from` to
#   {glue:text}`heard_to`. **{glue:text}`claim_5`** {glue:text}`where_5`
# - At {glue:text}`heard_to` every measure of the heard sound is within 10 % of the VAE's.
#   **{glue:text}`claim_6`** {glue:text}`where_6`
#
# **What to do.** {glue:text}`advice` For speech: {glue:text}`advice_speech`
# {glue:text}`advice_above`
# :::
#
# A diffusion model makes sound by removing noise step by step, and adds fresh noise at every
# step but the last. Denoising Diffusion Codebook Models {cite:p}`ohayon2025ddcm` take that
# noise from a {term}`codebook` that the decoder has too. Whoever knows which entry was taken at
# each step can repeat the whole run. If the entries are chosen to lead towards a given clip, their
# indices are a compressed file of it.

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips: any format, rate and length
checkpoint: str = "mini"  # `mini`, a checkpoint folder, or a hub id
device: str = "cpu"  # where the networks run: cpu, cuda or mps
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
coarse_stages: list[int] = [1, 2, 3]  # of the one of larger blocks; the first at `low_seconds`
pursuit_rates: list[float] = [0.4, 0.7, 1.2]  # kbit/s of the paper's matching pursuit
linear_rates: list[float] = [0.5, 1.0]  # kbit/s with a linear denoiser in the network's place
paper_steps: int = 65  # network calls with one atom of the paper's 1024 a step
bases: int = 4  # of the cyclic codebook that spends the same bits in fewer calls
mixture_rate: float = 1.0  # kbit/s of clips that are mixed
heard_rates: list[float] = [2.0, 0.5, 0.2]  # kbit/s that are played; judged as heard up to the top

# %% tags=["hide-input"]
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch

from audioldm_utils.audio.clips import load_clip, to_model_rate
from audioldm_utils.audio.survey import NO_CLASS, usable_clips
from audioldm_utils.book.listening import Row, Take, abx, players
from audioldm_utils.book.plotting import (
    figure_caption,
    glue_table,
    glue_value,
    logarithmic,
    look,
    plain_table,
    points_with_intervals,
    rate_quality,
    style,
)
from audioldm_utils.bounds import as_lists

# %% tags=["hide-input"]
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.placement import load_rules
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.metrics.statistics import FEWEST
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Networks
from audioldm_utils.results import summaries as results
from audioldm_utils.studies import rate_claims, rate_curves
from audioldm_utils.studies.baselines import NOISES, envelope_noise
from audioldm_utils.studies.rates import family, payable
from audioldm_utils.studies.run import measure
from audioldm_utils.studies.streams import codes_entropy, read_drift
from audioldm_utils.studies.verdicts import NOT_COMPARED, where, words
from audioldm_utils.studies.verdicts import together as all_of

# %% tags=["hide-input"]
style()
pd.set_option("display.max_colwidth", None)  # or the last column is cut
# papermill's -p hands lists over as text.
lists = as_lists(rates, rvq_stages, coarse_stages, pursuit_rates, linear_rates, heard_rates)
rates, rvq_stages, coarse_stages, pursuit_rates, linear_rates, heard_rates = lists
clips = usable_clips(audio_dir, limit)
networks = Networks(load(checkpoint, device=device), synthesis=synthesis)

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
    "05_rates": {
        **coded, **swept, "low_seconds": low_seconds, "rvq_stages": rvq_stages,
        "coarse_stages": coarse_stages,
    },
    "05_placement": {**coded, **swept},
    "05_codebooks": {
        **coded, "pursuit_rates": pursuit_rates, "linear_rates": linear_rates,
        "paper_steps": paper_steps, "bases": bases,
    },
    "05_mixtures": {**coded, "mixture_rate": mixture_rate},
}  # fmt: skip
place = {"out_dir": out_dir, "evidence_dir": evidence_dir, "device": device}
place |= {"new_clips": new_clips}
# One of the evidence's clips is measured again; the other studies run the same code.
judged = {
    name: measure(name, clips, checkpoint, grid, **place, recheck=int(name == "05_rates"))
    for name, grid in grids.items()
}

# %% tags=["hide-input", "remove-output"]
main = judged["05_rates"]
found, about = main.table, f"n = {main.n}; {main.source}; checkpoint {checkpoint}; seed {seed}"
together = pd.concat([study.table for study in judged.values()], ignore_index=True)
settings_of = f"checkpoint {checkpoint}; seed {seed}"
glue_value("n", main.n, "d")
glue_value("rests", main.rests)
glue_value("seconds", seconds, ".2f", "s")
glue_value("low_seconds", low_seconds, ".2f", "s")
every = pd.Series({name.split()[0]: 1000 * hop for name, (_, hop) in NOISES.items()})
glue_table(every, "noise_every_{}", ".0f", "ms")
glue_value("steps", steps, "d")
way = look(f"vae-{networks.synthesis.replace('-', '')}").label
glue_value("synthesis", way.removeprefix("VAE + "))

# %% [markdown]
# Measured on the first {glue:text}`seconds` of every clip, with at most
# {glue:text}`steps` network calls. {glue:text}`rests` At the lowest rate
# {glue:text}`low_seconds` are coded, since the header would take all of a shorter file; the
# same beginning is judged. {glue:text}`too_short` clips that are too short even for that have no
# point there. At the next rate, header and checksum take {glue:text}`header_share` of the file.
# These clips are the half that the chapters on the bottleneck and on repairs do not take, so
# numbers of other chapters are of other clips. There are more than in the chapters on diffusion and
# codebooks, so that speech and tonal clips can be judged alone. Synthesis: {glue:text}`synthesis`.
#
# ## Listen
#
# The clip; the VAE alone, by each synthesis; DDCM at falling rates; and noise of the clip's
# envelope in octave bands.

# %% tags=["hide-input"]
codec = Codec(networks)
others = [way for way in ("vocoder", "griffin-lim") if way != networks.synthesis]
ways = {
    f"vae-{way.replace('-', '')}": Networks(networks.checkpoint, synthesis=way) for way in others
}
ways = {"vae": networks, **ways}
rows, files, pairs = [], [], []
measured = set(main.run["clip"])
settings = Settings(steps=steps, seed=seed)
for info in sorted(clips, key=lambda info: info.name not in measured)[:2]:
    wave = to_model_rate(load_clip(info, max_seconds=seconds))
    takes = [Take("original", wave, 16000)]
    for method, way in ways.items():
        made = way.reconstruct_vae(torch.from_numpy(wave)[None])[0].numpy()
        takes.append(Take(method, made, 16000))
    pairs += [(info.name, a, b) for a, b in pairwise(takes)]
    start = len(takes)
    for rate, encoded in payable(codec, wave, sorted(heard_rates, reverse=True), settings):
        heard = codec.waveform(encoded.codes.latents, encoded.header)
        takes.append(Take("ddcm", heard, 16000, f"DDCM, {rate:g} kbit/s"))
        files.append(encoded.data)
    pairs += [(info.name, a, b) for a, b in pairwise([takes[1], *takes[start:][:2]])]
    noise = envelope_noise(wave, 16000, "seven bands", seed)
    takes.append(Take("envelope-noise", noise.samples, 16000))
    rows.append(Row(info.name, takes, info.caption or ""))
players(rows, Path(out_dir) / "listening", f"Falling rates; checkpoint {checkpoint}.")

# %% [markdown]
# ## Rate and quality
#
# The mel error is the mean absolute difference of the decoded latents' log-mel to the clip's own,
# before any phase is made up.
# DDCM aims at the VAE's own latents, so the VAE's error is drawn as its ceiling. Other ways
# stand beside it:
#
# - The **{term}`residual quantiser <residual vector quantiser>`** codes the same latents without
#   diffusion, by stages of fitted codebooks. It is charged the same header. At the lowest rates a
#   second one of larger blocks stands in for it, and its smallest file holds as many seconds as
#   DDCM's. Its highest rate is {glue:text}`quantiser_top`. Its seconds were not measured.
# - The **linear denoiser** is the same codec with the best linear estimate in the network's place.
# - **Noise of the clip's envelope** keeps levels alone: of the whole band every
#   {glue:text}`noise_every_broadband`, or of octaves every {glue:text}`noise_every_seven`. Its
#   levels are coded, its bits counted, and the same header charged. Its error is that of the mean
#   mel of several draws, so that chance does not count against it.

# %% tags=["hide-input", "remove-output"]
summary = results.summarise(found, by=("method", "stage", "metric"))
value = summary.set_index(["method", "stage", "metric"])["mean"]
above = {rate: f"{rate:g} kbit/s" for rate in sorted(rates) if rate > low_rate}
stages_of = [f"{rate:g} kbit/s" for rate in sorted(rates)]
stages_of = [s for s in stages_of if ("ddcm", s, "rate") in value]
errors = rate_curves.over_rate(
    together[together["stage"].str.contains("kbit|stages|band")],
    "mel_error",
    ("ddcm", "ddcm-uniform", "ddcm-pursuit", "rvq", "linear", "envelope-noise"),
)
ceiling = value["vae", "", "mel_error"]
glue_value("vae_nat", ceiling, ".3f", "nat")
ends = summary[summary["method"] == "ddcm"].pivot(index="stage", columns="metric", values="mean")
kept = [stages_of[0], stages_of[-1]] if stages_of else ["none", "none"]
ends = ends.reindex(kept, columns=["rate", "mel_error", "latent_correlation"])
ends = ends.set_axis(["low", "high"])
paid = value.reindex([("ddcm", s, m) for s in stages_of[1:2] for m in ("payload_rate", "rate")])
glue_value("header_share", 100 * (1 - paid.iloc[0] / paid.iloc[-1]) if len(paid) else 0, ".0f", "%")
glue_table(ends["rate"], "rate_{}", ".2g", "kbit/s")
glue_table(ends["mel_error"], "error_{}", ".2f", "nat")
glue_table(ends["latent_correlation"], "correlation_{}", ".2f")
glue_value("answer", rate_claims.answer(found, stages_of, main.source))
tops = found[(found["method"] == "rvq") & (found["metric"] == "rate")]["value"]
glue_value("quantiser_top", tops.max(), ".1f", "kbit/s")
own = summary[(summary["method"] == "ddcm") & (summary["metric"] == "mel_error")]["n"]
glue_value("too_short", main.n - own.min() if len(own) else main.n, "d")

# %% tags=["hide-input"]
axes = rate_quality(errors, "mel error, nat (less is better)", ceilings={"vae": ceiling})
logarithmic(axes, "y")
axes.set_xlabel("rate of the whole file, kbit/s")
figure_caption(
    axes.figure,
    "fig-rates",
    f"The mel error goes from {ends['mel_error'].iloc[0]:.2f} nat at the lowest rate to "
    f"{ends['mel_error'].iloc[1]:.2f} nat at the highest; the VAE without coding leaves "
    f"{ceiling:.2f} nat. Over the true rate of the file, mean over clips with 95 % interval. "
    f"{about}.",
    "Curves of error over a logarithmic axis of rate, above the line of the VAE alone.",
)

# %% [markdown]
# At {glue:text}`rate_low` the error is {glue:text}`error_low`, and the latents correlate with the
# input's at {glue:text}`correlation_low`. At {glue:text}`rate_high` the error is
# {glue:text}`error_high` and the correlation {glue:text}`correlation_high`. Random choices need
# not start from zero there: «Codebooks» gives theirs, on other clips, under «From compression to
# sampling».
#
# ## Does every step up the rate help?
#
# Paired differences over clips between neighbouring rates.

# %% tags=["hide-input", "remove-output"]
risen = rate_claims.steps(found, stages_of, "mel_error")
risen["smaller"] = words(risen, above=False)
glue_value("worst_p", risen["p, Holm"].max(), ".2g")
verdict = rate_claims.FALLS[all_of(list(risen["smaller"]))]
glue_value("verdict", verdict if len(risen) else "was measured at one rate")
glue_value("claim_1", all_of(list(risen["smaller"])))

# %% tags=["hide-input"]
units = {name: f"{name}, nat" for name in ("first", "second", "difference", "low", "high")}
shown = risen.rename(columns=units | {"first": "higher rate, nat", "second": "lower rate, nat"})
plain_table(shown.reset_index(names="step"))

# %% [markdown]
# The mean error {glue:text}`verdict`. The largest p-value, corrected for the number of steps, is
# {glue:text}`worst_p`.
#
# ## The plain alternatives, at equal rate
#
# Each clip's curve of the residual quantiser is read at the true rate of DDCM's file, and DDCM's
# curve at the rate of the noise. A difference below zero speaks for DDCM.

# %% tags=["show-input", "remove-output"]
beside = rate_claims.against(found, "rvq", stages_of)
noise = rate_claims.against_noise(found)
linear = [f"{rate:g} kbit/s" for rate in linear_rates]
sides = {s: tuple({"method": m, "stage": s} for m in ("ddcm", "linear")) for s in linear}
linear = results.differences(together, sides, "mel_error")
linear = linear.assign(claim=words(linear, above=False))
glue_value("ranges", rate_claims.by_range(beside, stages_of))
glue_value("where_2", rate_claims.range_of(beside, stages_of))
glue_value("where_3", rate_claims.range_of(linear))
glue_value("left_out", rate_claims.left_out(found, "rvq", stages_of))
glue_value("advice", rate_claims.advice(beside))
glue_value("claim_2", all_of(list(beside["claim"])))
glue_value("claim_3", all_of(list(linear["claim"])))
glue_value("claim_4", all_of(list(noise["claim"])))

# %% tags=["hide-input"]
parts = {"residual quantiser": beside, "noise of the envelope": noise, "linear denoiser": linear}
shown = [part.reset_index(names="at").assign(beside=name) for name, part in parts.items()]
shown = pd.concat(shown)[["beside", "at", *beside.columns]]
plain_table(shown.rename(columns=units | {"first": "DDCM, nat", "second": "other, nat"}))

# %% [markdown]
# Beside the residual quantiser DDCM is {glue:text}`ranges`. {glue:text}`left_out` «Undecided» means
# that the 95 % interval of the difference holds zero, or that there are too few clips.
#
# ## As heard
#
# Waveforms at 16 kHz against the clip's. Ogg Opus {cite:p}`valin2012opus` and MP3 are those that
# libsndfile writes, at their lowest rates. The rate is that of the payload, since Opus' container
# takes much of so short a file. The lines are ceilings: the VAE without coding, by the synthesis
# of this run and by the checkpoint's vocoder, and the true mel. ViSQOL
# {cite:p}`chinen2020visqol` hardly hears phase, waveform codecs keep it; neither measure alone
# settles which sounds better. {glue:text}`floor`

# %% tags=["hide-input", "remove-output"]
split = rate_curves.heard_through(found, "vocoder")
judged_rates = [above[rate] for rate in above if rate <= max(heard_rates)]
judged_rates = [stage for stage in judged_rates if stage in stages_of]
glue_value("heard_from", judged_rates[0] if judged_rates else "none")
glue_value("heard_to", judged_rates[-1] if judged_rates else "none")
own, improved, near = rate_claims.heard(found, judged_rates)
for number, words_of in ((5, improved), (6, near)):
    named = {rate_claims.HEARD[metric].split(",")[0]: word for metric, word in words_of.items()}
    glue_value(f"claim_{number}", all_of(list(named.values())))
    glue_value(f"where_{number}", where(named, "for {}") or NOT_COMPARED)
tops = split[split["method"].isin(["vae", "vae-vocoder", "mel"]) & (split["stage"] == "")]
tops = tops[tops["band"] == ""].groupby(["metric", "method"])["value"].mean()
coders = ("ddcm", "ddcm-vocoder", "rvq", "envelope-noise", "opus", "mp3", "codec2", "speex")
tonal = set(found[found["metric"] == "chroma_correlation"]["clip"])
spoken = set(found[found["metric"] == "stoi"]["clip"])
glue_value("tonal", len(tonal), "d")
glue_value("spoken", len(spoken), "d")

# %% tags=["hide-input", "remove-output"]
glue_value("speech_codecs", rate_claims.speech_codecs(found))
glue_value("floor", rate_claims.visqol_floor(found, stages_of, evidence_dir))
noise_stoi = rate_claims.stoi_beside(found, "envelope-noise", "noise of the clip's envelope")
glue_value("noise_stoi", noise_stoi)
glue_value("advice_speech", rate_claims.stoi_beside(found, "codec2", "Codec2"))
recordings = found[found["clip"].isin(spoken)]["recording"].nunique()
few = ", too few to decide STOI" * (recordings < FEWEST)
glue_value("few_spoken", f"The clips of speech are of {recordings} recordings{few}.")
last = stages_of[-1] if stages_of else "none"
glue_value("advice_above", rate_claims.passed_by(found, "opus", "Opus", last))

# %% tags=["hide-input"]
SHOWN = {
    "log_mel_distance": "log-mel distance, dB\n(less is better)",
    "multi_resolution_stft": "multi-resolution STFT\ndistance (less is better)",
    "visqol": "ViSQOL, MOS\n(more is better)",
}
figure, panels = plt.subplots(3, 1, figsize=(5.2, 12))
for panel, (metric, label) in zip(panels, SHOWN.items(), strict=True):
    curve = rate_curves.over_rate(split, metric, coders[:-2], "payload_rate")
    rate_quality(curve, label, axes=panel, ceilings=dict(tops.get(metric, {})))
    panel.set_xlabel("payload rate, kbit/s")
figure_caption(
    figure,
    "fig-heard",
    "Three measures of the waveform over the rate of the payload (no header, no container), mean "
    "with 95 % interval; flat lines are ceilings without coding, of which those of the VAE and of "
    f"the true mel nearly coincide. {about}.",
    "Three panels of curves over rate: DDCM and the residual quantiser at low rates, Opus and MP3 "
    "at higher ones.",
)

# %% [markdown]
# Pitch and words. Chroma correlation tells of the {glue:text}`tonal` tonal clips whether the melody
# is still there; STOI tells of the {glue:text}`spoken` clips of speech whether the words are.
# At the payload rates of others (below zero the other is ahead): {glue:text}`noise_stoi`
# {glue:text}`advice_speech` {glue:text}`speech_codecs`

# %% tags=["hide-input"]
shown, pitch = None, {"chroma_correlation": "chroma correlation", "stoi": "STOI of speech"}
pitch = {name: text for name, text in pitch.items() if (found["metric"] == name).any()}
if pitch:
    figure, panels = plt.subplots(len(pitch), 1, figsize=(5.2, 3 + 3 * len(pitch)), squeeze=False)
    for panel, (metric, label) in zip(panels[:, 0], pitch.items(), strict=True):
        curve = rate_curves.over_rate(split, metric, coders, "payload_rate")
        label = f"{label} (more is better)"
        rate_quality(curve, label, axes=panel, ceilings=dict(tops.get(metric, {})))
        panel.set_xlabel("payload rate, kbit/s")
    shown = figure_caption(
        figure,
        "fig-pitch",
        f"Pitch of {len(tonal)} tonal clips, and intelligibility of {len(spoken)} clips of speech, "
        f"over the rate of their payload, mean with 95 % interval. {settings_of}.",
        "Panels of curves over rate that rise towards the lines of the VAE and of the true mel.",
    )
shown

# %% tags=["hide-input", "hide-output"]
plain_table(own)

# %% [markdown]
# The table above gives the change of each measure from rate to rate with a word for «it improved»;
# its last column asks whether the highest of these rates is within 10 % of the VAE's value.
# {glue:text}`few_spoken` The table below is the same through the checkpoint's own vocoder.

# %% tags=["hide-input"]
plain_table(rate_claims.heard(found, judged_rates, synthesis="vocoder")[0])

# %% tags=["hide-input", "hide-output"]
kept = [*SHOWN, "chroma_correlation", "comb_excess", "stoi", "rate", "payload_rate"]
wide = results.summarise(split[split["metric"].isin(kept)], ("method", "stage", "metric", "band"))
names = wide["method"].map(lambda name: look(name).label)
first = wide["stage"].str.extract(r"^([\d.]+)")[0].astype(float).fillna(0)
stages = wide["stage"].str.replace(r"^1 (.*)stages", r"1 \1stage", regex=True)
wide = wide.assign(codec=names + (", " + stages).where(stages != "", ""), first=first)
told_as = wide.attrs
wide = wide.sort_values(["method", "first"], kind="stable")
wide.attrs = told_as
results.tabulate(wide.drop(columns=["method", "stage"]), rows="codec", digits=2)

# %% [markdown]
# ## Which part earns it?
#
# One part is changed at a time, at equal rate. A Bjøntegaard delta (BD-rate) is the rate that one
# codec needs beyond another at equal error, over the range that both cover; less than zero saves.
#
# - **Placement.** The steps lie where `audioldm-utils fit --parts placement` found them best for
#   each rate on other clips, which no network was trained on, against uniform timesteps.
# - **Several atoms.** Cyclic shifts against the paper's matching pursuit (its number of
#   entries, quantised coefficients), at equal network calls.

# %% tags=["hide-input", "remove-output"]
half, names = len(above) // 2, list(above.values())
high, low, several = names[half:], names[: half + 1], names[:-1]
pursuit = [f"{rate:g} kbit/s" for rate in pursuit_rates]
deltas = {
    "placement_high": ("ddcm-uniform", {"ddcm": high, "ddcm-uniform": high}),
    "placement_low": ("ddcm-uniform", {"ddcm": low, "ddcm-uniform": low}),
    "pursuit": ("ddcm-pursuit", {"ddcm": several, "ddcm-pursuit": pursuit}),
}
for key, (other, asked) in deltas.items():
    deltas[key] = rate_curves.delta(together, "ddcm", other, "mel_error", asked)
    glue_value(f"bd_{key}", rate_curves.delta_text(deltas[key]))
for key, part in (("high", high), ("low", low), ("several", several), ("pursuit", pursuit)):
    ends_of = dict.fromkeys((part[0].split()[0], part[-1])) if part else ["none"]
    glue_value(f"span_{key}", " to ".join(ends_of))
glue_value("n_pursuit", deltas["pursuit"].n if deltas["pursuit"] else 0, "d")

# %% tags=["hide-input", "hide-output"]
span = [f"{part[0].split()[0]} to {part[-1]}" if part else "none" for part in (high, low)]
asked = {
    f"placement against uniform timesteps, {span[0]}": "placement_high",
    f"the same, {span[1]}": "placement_low",
    "cyclic shifts against matching pursuit": "pursuit",
}
compared = pd.DataFrame(
    [
        {"comparison": text, "BD-rate, mel error": rate_curves.delta_text(deltas[key]),
         "clips": deltas[key].n if deltas[key] else 0}
        for text, key in asked.items()
    ]
)  # fmt: skip
plain_table(compared)

# %% [markdown]
# What the placement does to the rate that is needed: {glue:text}`bd_placement_high` at
# {glue:text}`span_high`, {glue:text}`bd_placement_low` at {glue:text}`span_low`. We read it so: at
# low rates the few choices must decide the coarse structure. Real latents decide it at the noisiest
# steps, where uniform timesteps already lie. At high rates the coarse structure is soon settled.
# What is left to code is fine detail, and uniform timesteps have few steps near the clean latents.
# Cyclic shifts (at {glue:text}`span_several`) against matching pursuit (at
# {glue:text}`span_pursuit`), over the errors that both reach: {glue:text}`bd_pursuit`
# (n = {glue:text}`n_pursuit`).

# %% tags=["hide-input", "hide-output"]
rules = load_rules(networks.checkpoint.path, networks.checkpoint.fingerprint)
shown = pd.DataFrame(rules, columns=["bits a value below", "spaced by", "power", "last alpha-bar"])
limits = shown["bits a value below"].map("{:g}".format).replace("inf", "any")
plain_table(shown.assign(**{"bits a value below": limits}))

# %% [markdown]
# The placements in use, by the bits of a latent value. One more question is asked at a single
# point: does one large choice a step replace several small ones?

# %% tags=["hide-input", "remove-output"]
shifts = {"method": "ddcm", "stage": "one atom of shifts"}
paper = {"method": "ddcm-gaussian", "stage": "one atom of 1024"}
question = "one atom of all shifts against one of 1024 independent"
points = results.differences(together, {question: (shifts, paper)}, "mel_error")
calls = together[together["metric"] == "network_calls"].groupby("stage")["value"].mean()
saved = 1 - calls.get("one atom of shifts", 0) / calls.get("one atom of 1024", 1)
glue_value("saved", 100 * saved, ".0f", "%")
glue_value("point_one", rate_curves.difference_text(points, question))
one = together[together["stage"].isin(["one atom of shifts", "one atom of 1024"])]
glue_value("one_rate", one[one["metric"] == "payload_rate"]["value"].mean(), ".2f", "kbit/s")
glue_value("one_n", points["n"].max() if len(points) else 0, "d")
glue_value("calls_shift", calls.get("one atom of shifts", float("nan")), ".0f")
glue_value("calls_paper", calls.get("one atom of 1024", float("nan")), ".0f")
classes = found.drop_duplicates("clip").set_index("clip")["class"]
glue_value("by_class", "The same rates by broad class of sound." if classes.any() else NO_CLASS)

# %% [markdown]
# With one atom a step and equal bits ({glue:text}`one_rate` of payload), a cyclic codebook of a few
# bases takes {glue:text}`calls_shift` network calls, {glue:text}`saved` fewer than the
# {glue:text}`calls_paper` of the paper's independent atoms; the error changes by
# {glue:text}`point_one` (n = {glue:text}`one_n`).
#
# ## By class and by complexity
#
# {glue:text}`by_class` {glue:text}`class_ends` Besides, one clip is mixed with a second and a
# third, of other classes if there are any, all equally loud, at {glue:text}`mixture_rate`.
# {glue:text}`mixing`

# %% tags=["hide-input"]
shown, chosen = None, list(dict.fromkeys(names[i] for i in (1, -2) if len(names) > 1)) or names
class_ends = ""
if classes.any():
    grouped = rate_curves.by_group(found, "ddcm", "mel_error", classes.map(family).to_dict())
    grouped = grouped[grouped["stage"].isin(chosen)]
    class_ends = " ".join(rate_claims.classes(grouped, stage) for stage in chosen)
    axes = points_with_intervals(
        grouped.assign(stage="DDCM, " + grouped["stage"]),
        "mel error, nat (less is better)",
        category="group",
        series="stage",
    )
    shown = figure_caption(
        axes.figure,
        "fig-codec-classes",
        f"Mel error by broad class at {' and '.join(chosen)}, mean with 95 % interval over clips. "
        f"{about}.",
        "Points with intervals, one row a class and one series a rate.",
    )
glue_value("class_ends", class_ends)
shown

# %% tags=["hide-input"]
glue_value("mixture_rate", mixture_rate, "g", "kbit/s")
glue_value("mixing", rate_claims.mixed(judged["05_mixtures"].table))
mixed = judged["05_mixtures"].table
mixed = mixed[mixed["metric"] == "mel_error"]
mixed = mixed[mixed.groupby("clip")["stage"].transform("nunique") == mixed["stage"].nunique()]
n_mixed = mixed["clip"].nunique()  # those that are there alone, in a pair and in a triple
mixed = results.summarise(mixed, by=("method", "stage", "metric")).assign(
    order=lambda t: t["stage"].map({"one clip": 0, "pair": 1, "triple": 2})
)
mixed = mixed.sort_values(["order", "method"])
axes = points_with_intervals(
    mixed, "mel error, nat (less is better)", category="stage", series="method"
)
figure_caption(
    axes.figure,
    "fig-mixtures",
    "Mel error by complexity: a clip alone, mixed with a second, and with a third, at "
    f"{mixture_rate:g} kbit/s, and the VAE's own. n = {n_mixed} clips, each of them alone, "
    f"in a pair and in a triple; checkpoint {checkpoint}.",
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
glue_value("drift", read_drift(evidence_dir, networks.checkpoint.fingerprint))
glue_value("entropy_share", 100 * left.saving / left.bits, ".1f", "%")
glue_value("entropy_files", len(files), "d")
glue_value("timed_at", names[half] if names else "none")

# %% tags=["hide-input", "hide-output"]
indices = pd.DataFrame(
    {
        "indices": [left.count], "bits of an index": [left.bits],
        "saving of their histogram, bits": [left.saving], "p, uniform": [left.p_uniform],
        "saving by the index before, bits": [left.memory], "p, independent": [left.p_independent],
    }
)  # fmt: skip
plain_table(indices, 4)

# %% [markdown]
# At {glue:text}`timed_at`, encoding takes {glue:text}`encode_time` of processor time for each
# second of sound, nearly all of it in the network. Decoding replays the same calls without the
# choice; making sound of the mel then takes {glue:text}`synthesis_time`. An entropy coder would
# save {glue:text}`entropy_saving` of {glue:text}`entropy_bits` an index, {glue:text}`entropy_share`
# ({glue:text}`entropy_count` indices of {glue:text}`entropy_files` files).
#
# A file that is decoded in a batch, or with another number of threads than it was encoded with,
# meets other roundings; each step carries them on. {glue:text}`drift`
#
# ## Published codecs
#
# Numbers from one paper's own table {cite:p}`liu2024semanticodec`, for orientation: other sounds,
# other references, and a mel measure of its own. They must not be compared with the figures above.

# %% tags=["hide-input", "hide-output"]
published = pd.read_csv(Path(evidence_dir) / "published_codecs.csv")
plain_table(published, 2)

# %% [markdown]
# EnCodec is {cite:t}`defossez2023encodec`, DAC {cite:t}`kumar2023dac`.
#
# ## Can you hear it?
#
# X is one of a pair: the original and the VAE alone, the VAE by one synthesis and by another, the
# VAE alone and DDCM, or DDCM at one rate and at a higher one. Which one?

# %% tags=["hide-input"]
abx(pairs, Path(out_dir) / "listening", trials=8) if pairs else "No clip pays for such a file."

# %% [markdown]
# ## Limits
#
# The findings are of this checkpoint; a better denoiser predicts more of the clip by itself and
# leaves less to the bits. The correlation of latents counts what every clip has in common, such
# as the spectrum's slope, and so can start above zero for no bits at all. Excerpts are short, and a
# header weighs more on them than on longer sound. The residual quantiser has fixed-length
# indices; an entropy coder would lower its rate. Errors on another machine can differ a little,
# since one flipped choice moves all that follow. An earlier look at a few eval clips showed a fault
# in the search for the placement, which was mended and run again on others
# (`book/evidence/HISTORY.md`).
#
# ## Next
#
# The tables are among the downloads of the execution page. `audioldm-utils encode` makes files of
# your own sound, by rate or by `--mel-error`.
