# ---
# jupyter:
#   audioldm_utils:
#     tiny:
#       calls: 4
#       limit: 1
#       more_calls: 6
#       rates:
#       - 2.0
#       strengths:
#       - 0.3
#       - 0.6
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
# # VAE against diffusion
#
# :::{admonition} The answer
# :class: tip
# **Question.** How near to the clip does diffusion come, beside the VAE alone whose latents it
# starts from, and what does it invent?
#
# {glue:text}`answer`
#
# What would change our mind, and what was found:
#
# - No diffusion method has a smaller mel error than the VAE alone, at {glue:text}`calls` calls,
#   at any strength or rate below. **{glue:text}`claim_1`**
# - SDEdit's latents are more plausible to the denoiser than the VAE's.
#   **{glue:text}`claim_2`** {glue:text}`where_2`
# - SDEdit's sound is nearer to the caption by CLAP than the VAE's. **{glue:text}`claim_3`**
#   {glue:text}`where_3`
# - By mel error guidance stays nearer to the clip than SDEdit, at equal calls.
#   **{glue:text}`claim_4`** {glue:text}`where_4`
#
# **What to do.** {glue:text}`advice`
# :::
#
# The VAE loses {glue:text}`error_vae` of the log-mel. A diffusion model has learnt how sounds look
# and can fill in what is missing. But what it fills in need not be what was there. We expect a
# trade-off: what diffusion adds makes the result more plausible and less faithful.

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips: any format, rate and length
checkpoint: str = "mini"  # `mini`, a checkpoint folder, or a hub id
device: str = "cpu"  # where the networks run: cpu, cuda or mps
out_dir: str = "build/results/03_vae_vs_diffusion"  # where tables and audio are written
evidence_dir: str = "book/evidence"  # committed tables that findings rest on
seed: int = 0  # of all noise
synthesis: str = "auto"  # of the mel: auto, vocoder, griffin-lim or inverse
limit: int = 0  # use only so many clips; 0 for all
new_clips: int = 1  # clips that are measured where the evidence holds none of them; 0 for all
seconds: float = 2.56  # of a clip's beginning that is reconstructed
calls: int = 10  # network calls of every method, backward ones counted
more_calls: int = 15  # of SDEdit and DDCM at the second point, since backward calls take longer
strengths: list[float] = [0.2, 0.4, 0.7]  # of SDEdit and guidance; all judge the middle one
rates: list[float] = [0.5, 2.0]  # of DDCM, kbit/s; the last one is heard
probes: list[int] = [200, 500]  # timesteps at which the denoiser is asked how plausible a sound is

# %% tags=["hide-input"]
from pathlib import Path

import pandas as pd

from audioldm_utils.audio.clips import load_clip
from audioldm_utils.audio.survey import usable_clips
from audioldm_utils.book.listening import Row, Take, players
from audioldm_utils.book.plotting import (
    figure_caption,
    glue_object,
    glue_table,
    glue_value,
    look,
    plain_table,
    points_with_intervals,
    style,
    trade_off,
)
from audioldm_utils.bounds import as_lists

# %% tags=["hide-input"]
from audioldm_utils.methods.registry import reconstruct
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Networks
from audioldm_utils.results import summaries as results
from audioldm_utils.studies import diffusion
from audioldm_utils.studies.diffusion import EQUAL_SECONDS
from audioldm_utils.studies.published import beside
from audioldm_utils.studies.run import measure
from audioldm_utils.studies.verdicts import listed

SURE = 5  # recordings: the mean of fewer has no interval

# %% tags=["hide-input"]
style()
# papermill's -p hands lists over as text.
strengths, rates, probes = as_lists(strengths, rates, probes)
clips = usable_clips(audio_dir, limit)
networks = Networks(load(checkpoint, device=device), synthesis=synthesis)

# %% [markdown]
# ## Method
#
# All start from the VAE's latents $z$ of the clip and end in the VAE's decoder. Guidance and DDCM
# aim at $z$ itself. So the first claim is close to true by construction, and the open question is
# how near they come. Aiming at the mel instead of $z$ was not tried.
#
# - **`sdedit`** {cite:p}`meng2022sdedit`: noise up to a strength $s$,
#   $x_t = \sqrt{\bar\alpha_t}\, z + \sqrt{1 - \bar\alpha_t}\, \epsilon$, and denoise again.
#   Nothing but $x_t$ tells the model what the clip was. All its calls lie below that noise.
# - **`guided`** {cite:p}`chung2023dps`: the same, and at every step the gradient of the distance
#   $\lVert z - \hat x_0(x_t) \rVert^2$ leads back to the clip. Each step is a forward and a
#   backward call, half of its {glue:text}`calls` each.
# - **`ddcm`** {cite:p}`ohayon2025ddcm`: the noise is chosen from codebooks, so that a few bits a
#   step lead to the clip.
#
# **Equal calls** counts each call of the denoiser for one clip, forward and backward. The VAE alone
# needs none. Since a backward call takes longer, SDEdit and DDCM are also run with
# {glue:text}`more_calls` calls, and the seconds are given beside.
#
# *Fidelity* is the mel error of the decoded latents to the clip, before synthesis; measures of the
# waveform follow it. *Plausibility* is the denoiser's own: noise is added to the result's latents
# at timesteps {glue:text}`probes` (one draw each), and the denoiser's squared error in finding it
# is taken (no better than guessing at one). This favours what the model made, and smooth or quiet
# latents, too. So the checkpoint's {term}`CLAP` gives the cosine between the result and the clip's
# caption.
#
# DDPM inversion {cite:p}`hubermanspiegelglas2024edit` is not compared: replayed, it returns the
# VAE's latents exactly, by its construction. It is the base of edits.

# %% tags=["show-input", "remove-output"]
points = {"calls": calls, "more_calls": more_calls, "strengths": strengths, "rates": rates}
sound = {"seed": seed, "synthesis": synthesis}
grid = {**sound, "seconds": seconds, "probes": probes, **points}
place = {"out_dir": out_dir, "evidence_dir": evidence_dir, "device": device}
# One of the evidence's clips is measured again; of a reader's own, as many as `new_clips` says.
judged = measure("03_diffusion", clips, checkpoint, grid, **place, recheck=1, new_clips=new_clips)
about = f"n = {judged.n}; {judged.source}; checkpoint {checkpoint}; seed {seed}"
glue_value("n", judged.n, "d")
glue_value("rests", judged.rests)
glue_value("seconds", seconds, ".2f", "s")
glue_value("calls", calls, "d")
glue_value("more_calls", more_calls, "d")
way = f"vae-{networks.synthesis.replace('-', '')}"
glue_value("synthesis", look(way).label.removeprefix("VAE + "))
glue_value("probes", listed([str(t) for t in probes]))
overall = results.summarise(judged.table, by=("method", "stage", "metric"))

# %% [markdown]
# Measured on the first {glue:text}`seconds` of each clip, with {glue:text}`calls` network calls
# each where not said otherwise. {glue:text}`rests` There are fewer clips than in the chapters
# before, since each takes many runs, and numbers of other chapters are of
# other clips. The prompt is empty but where *caption* is said. Synthesis:
# {glue:text}`synthesis`.
#
# ## Listen: the best and the worst of the clips at hand
#
# Chosen by rule, not by hand: of the {glue:text}`n_at_hand` clips measured in this build
# (shipped ones are none of those that the findings rest on), the one where guidance gains most over
# SDEdit in mel error at the middle strength, and the one where it gains least.

# %% tags=["hide-input"]
middle, rate = f"strength {diffusion.middle(strengths):g}", f"{rates[-1]:g} kbit/s"
sides = [{"method": method, "stage": middle} for method in ("guided", "sdedit")]
near, free = results.pairs(judged.at_hand, *sides, "mel_error")
glue_value("n_at_hand", len(near), "d")
order = list((near - free).sort_values(kind="stable").index)
options = {(run.method, run.stage): run.options for run in diffusion.runs_of(**points)}
rows = []
cases = {order[-1]: "worst case", order[0]: "best case"}
for name, label in reversed(cases.items()):
    clip = load_clip(next(info for info in clips if info.name == name), max_seconds=seconds)
    takes = [Take("original", clip.samples, clip.sample_rate)]
    part = judged.at_hand[judged.at_hand["clip"] == name]
    done = set(zip(part["method"], part["stage"], strict=True))  # a clip can be too short for DDCM
    tried = (
        ("vae", ""),
        ("vae-griffinlim", ""),
        ("sdedit", middle),
        ("guided", middle),
        ("ddcm", rate),
    )
    for run in (run for run in tried if run in done):
        (made,) = reconstruct(clip, run[0], networks, seed=seed, **options.get(run, {}))
        takes.append(Take(run[0], made.audio, made.sample_rate))
    errors = f"{label}: mel error of guidance {near[name]:.2f}, of SDEdit {free[name]:.2f} nat"
    rows.append(Row(f"{name} ({errors})", takes, clip.caption or ""))
shown = players(rows, Path(out_dir) / "listening", f"Equal calls; checkpoint {checkpoint}.")
glue_object("player", shown)
shown

# %% [markdown]
# ## Does any of them reconstruct better?
#
# Paired differences to the VAE alone over clips, at equal calls: of the mel error, of the
# denoiser's error, and of CLAP's cosine with the caption.

# %% tags=["show-input", "remove-output"]
runs = diffusion.runs_of(**points)
claims = diffusion.claims(judged.table, runs, strengths)
for key, word in claims.items():
    glue_value(key, word)
glue_value("answer", diffusion.answer(judged.table, runs, calls, judged.source))
glue_value("invented", diffusion.invented(judged.table, max(strengths)))
glue_value("longer", diffusion.longer(judged.table, runs, calls, more_calls))
glue_value("advice", diffusion.advice(claims))
metrics = {"mel_error": "mel error, nat", "epsilon_error": "denoiser's error", "clap_text": "CLAP"}
differences = {m: diffusion.beside_vae(judged.table, runs, m) for m in metrics}

# %% tags=["hide-input"]
near = differences["mel_error"].reset_index(names="method")
axes = points_with_intervals(
    near, "mel error less the VAE's, nat (below zero is better)",
    reference=0.0, values=("difference", "low", "high"),
)  # fmt: skip
figure_caption(
    axes.figure,
    "fig-nearer",
    f"Mel error of each diffusion method less that of the VAE alone, at {calls} network calls: "
    f"mean over clips with 95 % interval; the dashed line is the VAE. {about}.",
    "One row a method; a point right of the dashed line is further from the clip than the VAE.",
)

# %% tags=["hide-input"]
tables = {metrics[m]: part.reset_index(names="method") for m, part in differences.items()}
both = pd.concat([part.assign(measure=name) for name, part in tables.items()])
named = {"first": "method's", "second": "VAE's"}
plain_table(both[["measure", *near.columns]].rename(columns=named))

# %% [markdown]
# ## Fidelity against plausibility
#
# Left is nearer to the clip, down is more plausible to the model.

# %% tags=["hide-input", "remove-output"]
equal = overall[~overall["stage"].str.contains(EQUAL_SECONDS) & (overall["stage"] != "caption")]
shown = ["vae", "sdedit", "guided", "ddcm"]
plane = diffusion.plane(equal, "mel_error", "epsilon_error", shown)
heard = diffusion.plane(equal, "mel_error", "clap_text", shown)
asked = "cannot be asked, since no clip has a caption" if heard.empty else "is asked too"
glue_value("clap_asked", asked)
named = {"low": min(strengths), "middle": diffusion.middle(strengths), "high": max(strengths)}
kept = {"mel_error": ("error", ".3f", "nat"), "log_mel_distance": ("mel", ".1f", "dB")}
kept["epsilon_error"] = ("epsilon", ".3f", "")
for word, strength in named.items():
    glue_value(f"strength_{word}", strength, "g")
    at = equal[equal["stage"] == f"strength {strength:g}"]
    at = at.pivot(index="method", columns="metric", values="mean").loc[["sdedit", "guided"]]
    for metric, (name, *shape) in kept.items():
        glue_table(at[metric], f"{name}_{{}}_{word}", *shape)
alone = equal[(equal["stage"] == "") & equal["method"].str.startswith("vae")]
alone = alone.pivot(index="method", columns="metric", values="mean")
for metric, (name, *shape) in kept.items():
    glue_table(alone[metric].dropna(), f"{name}_{{}}", *shape)

# %% tags=["hide-input"]
axes = trade_off(
    plane, "mel error, nat (left is nearer)", "denoiser's error (down is more plausible)"
)
figure_caption(
    axes.figure,
    "fig-plane",
    f"Fidelity against plausibility at {calls} network calls, means over clips with 95 % "
    f"intervals; labels are operating points. {about}.",
    "Points of four methods in a plane, those of one method joined and labelled.",
)

# %% [markdown]
# The VAE's mel error is {glue:text}`error_vae`. SDEdit's is {glue:text}`error_sdedit_low`,
# {glue:text}`error_sdedit_middle` and {glue:text}`error_sdedit_high` at strengths
# {glue:text}`strength_low`, {glue:text}`strength_middle` and {glue:text}`strength_high`. The
# difference to the VAE is invented. {glue:text}`invented` Guidance at the same calls has
# {glue:text}`error_guided_low`, {glue:text}`error_guided_middle` and
# {glue:text}`error_guided_high`. The denoiser's error is
# {glue:text}`epsilon_vae` for the VAE's latents and {glue:text}`epsilon_sdedit_high` for SDEdit's
# at the largest strength. The figures and tables give the intervals.
#
# The checkpoint's CLAP {glue:text}`clap_asked`.

# %% tags=["hide-input"]
shown = None
if not heard.empty:
    axes = trade_off(heard, "mel error, nat (left is nearer)", "CLAP cosine (up is better)")
    shown = figure_caption(
        axes.figure,
        "fig-clap",
        f"Fidelity against CLAP's cosine with the caption. {about}.",
        "Points of four methods in a plane, those of one method joined and labelled.",
    )
shown

# %% [markdown]
# ## As heard
#
# The same reconstructions as waveforms, and the VAE alone through each synthesis: the
# checkpoint's vocoder, plain Griffin-Lim and the fitted inverse of the mel. Chroma and the share
# of energy in the comb (100 Hz) are of tonal clips, STOI of speech. A mean of fewer than
# {glue:text}`fewest` recordings has no interval.

# %% tags=["hide-input", "hide-output"]
judges = ["log_mel_distance", "multi_resolution_stft", "visqol", "chroma_correlation"]
judges = [*judges, "comb_excess", "stoi"]
heard = judged.table[judged.table["metric"].isin(judges) & (judged.table["band"] == "")]
heard = results.summarise(heard, by=("method", "stage", "metric"))
heard.loc[heard["recordings"] < SURE, ["low", "high"]] = float("nan")
glue_value("fewest", SURE, "d")
stages = heard["stage"].str.replace(EQUAL_SECONDS, f", {more_calls} calls")
names = heard["method"].map(lambda name: look(name).label)
heard = heard.assign(run=names + (", " + stages).where(stages != "", ""))
results.tabulate(heard, rows="run", digits=2)

# %% tags=["hide-input"]
ways = ["vae-vocoder", "vae-griffinlim", "vae-inverse"]
heard = overall[overall["method"].isin(ways) & (overall["metric"] == "multi_resolution_stft")]
axes = points_with_intervals(heard, "multi-resolution STFT distance (less is better)", order=ways)
figure_caption(
    axes.figure,
    "fig-syntheses",
    "The VAE's mel as sound, by three syntheses: distance of the waveform to the clip, mean over "
    f"clips with 95 % interval. {about}.",
    "One row a synthesis; a point further left is nearer to the clip.",
)

# %% [markdown]
# The log-mel distance of the VAE alone is {glue:text}`mel_vae-vocoder` through the vocoder,
# {glue:text}`mel_vae-griffinlim` through Griffin-Lim and {glue:text}`mel_vae-inverse` through the
# fitted inverse.
#
# ## More calls, and their seconds

# %% tags=["hide-input", "remove-output"]
stages_at = {
    "vae": "",
    "guided": middle,
    "sdedit": f"{middle}{EQUAL_SECONDS}",
    "ddcm": f"{rate}{EQUAL_SECONDS}",
}
timed = overall.assign(key=list(zip(overall["method"], overall["stage"], strict=True)))
timed = timed[timed["key"].isin(list(stages_at.items()))]
# A clip can be too short for DDCM's rate.
wide = timed.pivot(index="method", columns="metric", values="mean").reindex(list(stages_at))
glue_table(wide["seconds"], "seconds_{}", ".1f", "s")
seconds_of = wide["seconds"]
glue_value("time_ratio", seconds_of["ddcm"] / seconds_of["guided"], ".1f")

# %% tags=["hide-input"]
timed = timed[timed["metric"] == "mel_error"]
axes = points_with_intervals(timed, "mel error, nat (less is better)")
figure_caption(
    axes.figure,
    "fig-seconds",
    f"Mel error of SDEdit and DDCM with {more_calls} calls, guidance with {calls} (half of them "
    f"backward) and the VAE with none; SDEdit and guidance at {middle}, DDCM at {rate}. {about}.",
    "One row a method; a point further left is nearer to the clip.",
)

# %% [markdown]
# On the machine that measured them, guidance with {glue:text}`calls` calls took
# {glue:text}`seconds_guided` a clip, SDEdit with {glue:text}`more_calls`
# {glue:text}`seconds_sdedit` and DDCM {glue:text}`seconds_ddcm`,
# {glue:text}`time_ratio` times guidance's. {glue:text}`longer`
#
# ## What they cost
#
# Seconds for one second of sound (the real-time factor), calls in all and those of them that are
# backward, and the memory that a method takes beyond what was in use before it. Differences of
# some MB mean nothing. Encoding is not counted, since all do it.

# %% tags=["hide-input", "hide-output"]
costs = ["seconds_per_second", "unet_calls", "unet_backward", "memory_growth"]
spent = overall[overall["metric"].isin(costs)].copy()
stages = spent["stage"].str.replace(EQUAL_SECONDS, f", {more_calls} calls")
names = spent["method"].map(lambda name: look(name).label)
spent["run"] = names + (", " + stages).where(stages != "", "")
spent.attrs = overall.attrs
results.tabulate(spent, rows="run")

# %% [markdown]
# ### The published architecture at its own size
#
# `mini` is small. The cost of the published layout does not depend on its weights, so it can be
# measured with random ones (`python benchmarks/published_size.py`). Seconds of the clock for one
# second of sound, one run each: `mini` on the machine of this run, the other on that of the
# benchmark, so the ratio tells no more than an order of magnitude. «Codebooks» times a step on one
# core instead.

# %% tags=["hide-input", "hide-output"]
plain_table(beside(networks, checkpoint, evidence_dir, "build"))

# %% [markdown]
# ## Limits
#
# One denoiser, on clips of {glue:text}`seconds`. Plausibility is the model's own opinion, and a
# model that knows little finds much plausible. CLAP is the checkpoint's own, trained on the same
# captions. Nothing in SDEdit knows the clip beyond $x_t$, so a stronger denoiser would invent
# better and still invent. DDCM is given bits of the clip that the others are not.
#
# ## Next
#
# The noise itself can carry the clip: codebooks, and DDCM as a codec.
