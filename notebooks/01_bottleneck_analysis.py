# ---
# jupyter:
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
# # Where does the sound go?
#
# A recording that is sent through AudioLDM2's own front end, VAE and vocoder comes back
# changed, although no diffusion has taken place. This chapter takes the path apart, one stage
# at a time, and asks what each of them loses.
#
# **What would change our mind.** We expect the VAE, which keeps half as many numbers as the
# mel spectrogram has, to be the bottleneck. If exchanging the vocoder changes more than
# exchanging the VAE's output for the true mel, the vocoder is. If the oracle that is given the
# true phase is no better than Griffin-Lim, the lost phase costs nothing.

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips: any format, rate and length
checkpoint: str = "mini"  # `mini`, a checkpoint folder, or a hub id
out_dir: str = "build/results/01_bottleneck_analysis"  # where tables and audio are written
evidence_dir: str = "book/evidence"  # committed tables that findings rest on
seed: int = 0  # of Griffin-Lim's first phase
synthesis: str = "auto"  # of the mel: auto, vocoder, griffin-lim or inverse
limit: int = 0  # use only so many clips; 0 for all
new_clips: int = 2  # clips that are measured where the evidence holds none of them; 0 for all
excerpt_seconds: float = 2.56  # of a clip, whose latents are refined
refine_steps: int = 25  # gradient steps of the refined latent

# %% tags=["hide-input"]
from pathlib import Path

from audioldm_utils.audio.clips import load_clip
from audioldm_utils.audio.survey import NO_CLASS, usable_clips
from audioldm_utils.book.listening import Row, Take, players
from audioldm_utils.book.plotting import (
    figure_caption,
    glue_object,
    glue_table,
    glue_value,
    heatmap,
    points_with_intervals,
    spectrogram_pair,
    style,
)
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Networks
from audioldm_utils.results import summaries as results
from audioldm_utils.studies import bottleneck
from audioldm_utils.studies.rows import MEL_BANDS, band_name
from audioldm_utils.studies.run import measure

style()
clips = usable_clips(audio_dir, limit)
networks = Networks(load(checkpoint), synthesis=synthesis)

# %% [markdown]
# ## Method
#
# The front end makes a natural-log mel spectrogram $m = \ln \max(M |S|, 10^{-5})$ of 64 bands
# and 100 frames a second from 16 kHz audio. The VAE's encoder maps it to latents
# $z = E(m)$, 8 channels at a quarter of both resolutions; its decoder gives
# $\hat m = D(z)$; the vocoder makes a waveform $\hat x = V(\hat m)$ and invents the phase.
#
# Each **path** takes one of these steps in or out. Two kinds of swap tell causes apart:
# *exchange the vocoder* for Griffin-Lim {cite:p}`griffin1984signal`, or *exchange the VAE's mel*
# for the true one. Two **oracles** use what no decoder knows, and are labelled so: the
# original's phase, and a latent refined by gradient steps on the original's mel, which
# tells the encoder's share of the VAE's error from the decoder's.

# %% tags=["show-input"]
# Three of the evidence's clips are measured again; a reader's own are measured one and all.
place = {"out_dir": out_dir, "evidence_dir": evidence_dir}
sound = {"seed": seed, "synthesis": synthesis}
judged = measure("01_ladder", clips, checkpoint, sound, **place, recheck=3)

# %% tags=["hide-input", "remove-output"]
about = f"n = {judged.n}; {judged.source}; checkpoint {checkpoint}; seed {seed}"
glue_value("n", judged.n, "d")
glue_value("rests", judged.rests)

# %% [markdown]
# {glue:text}`rests`
#
# ## Listen
#
# The same clip on every path, at equal loudness. Start one and change to another while it plays.

# %% tags=["hide-input"]
shown = [load_clip(info, max_seconds=6.0) for info in clips[:: max(1, len(clips) // 4)][:4]]
found = [bottleneck.reconstruct_each_way(clip, networks, seed) for clip in shown]
heard = ("band-limit", "mel-griffinlim", "mel-vocoder", "vae-griffinlim", "vae")
rows = [
    Row(
        one.clip.name,
        [
            Take("original", one.clip.samples, one.clip.sample_rate),
            *(
                Take(path, one.audio[path], one.clip.sample_rate if path == heard[0] else 16000)
                for path in heard
            ),
        ],
        one.clip.caption or "",
    )
    for one in found
]
players(rows, Path(out_dir) / "listening", f"Every path, checkpoint {checkpoint}.")

# %% tags=["hide-input", "remove-output"]
glue_object("player", players(rows[:1], Path(out_dir) / "listening", f"Checkpoint {checkpoint}."))

# %% [markdown]
# ## The ladder
#
# The log-mel distance compares each path's audio, analysed again by the front end, with the
# clip at 16 kHz. It hears level and spectrum, not phase.

# %% tags=["hide-input", "remove-output"]
overall = results.summarise(results.select(judged.table, band="", stage=""))
distance = overall[overall["metric"] == "log_mel_distance"].set_index("method")["mean"]
glue_table(distance, "mel_{}", ".1f", "dB")

# %% tags=["hide-input"]
paths = [path for path in bottleneck.PATHS if path != "band-limit"]
part = overall[(overall["metric"] == "log_mel_distance") & overall["method"].isin(paths)]
axes = points_with_intervals(part, "log-mel distance, dB (less is better)", order=paths)
figure_caption(
    axes.figure,
    "fig-ladder",
    "Log-mel distance to the 16 kHz clip on every path, mean over clips with 95 % interval. "
    f"{about}.",
    "One row a path: points further right are worse; the VAE paths lie right of the mel paths.",
)

# %% [markdown]
# Reading it: with the **true mel**, Griffin-Lim leaves {glue:text}`mel_mel-griffinlim` and the
# vocoder {glue:text}`mel_mel-vocoder`. After the **VAE** they leave
# {glue:text}`mel_vae-griffinlim` and {glue:text}`mel_vae`. The oracle that keeps the original's
# phase stands at {glue:text}`mel_mel-original-phase` with the true mel and at
# {glue:text}`mel_vae-original-phase` with the VAE's. The table gives every metric.

# %% tags=["hide-input"]
judges = ["log_mel_distance", "multi_resolution_stft", "log_spectral_distance", "visqol"]
results.tabulate(results.select(overall, metric=judges)).loc[list(bottleneck.PATHS)]

# %% [markdown]
# The waveform measures and the share of energy above 4 kHz that is kept (1 is right):

# %% tags=["hide-input"]
asked = ["snr", "correlation", "mae", "hf_retention"]
results.tabulate(results.select(overall, metric=asked)).loc[list(bottleneck.PATHS)]

# %% [markdown]
# The first row compares with the clip at its own rate, since it is there that the band limit
# removes everything above 8 kHz; all others compare with the clip at 16 kHz.
#
# ## What each step costs by itself
#
# Differences of paths, clip by clip, so that a clip that is hard everywhere does not count.

# %% tags=["hide-input", "remove-output"]
steps = {
    "lost phase (Griffin-Lim, true mel)": ("mel-griffinlim", "mel-original-phase"),
    "vocoder for Griffin-Lim (true mel)": ("mel-vocoder", "mel-griffinlim"),
    "VAE (Griffin-Lim)": ("vae-griffinlim", "mel-griffinlim"),
    "VAE (vocoder)": ("vae", "mel-vocoder"),
    "vocoder for Griffin-Lim (VAE mel)": ("vae", "vae-griffinlim"),
}
asked = {name: ({"method": a}, {"method": b}) for name, (a, b) in steps.items()}
costs = results.differences(judged.table, asked, "log_mel_distance")
change = costs["difference"]
glue_table(change.set_axis(range(1, len(change) + 1)), "step_{}", "+.1f", "dB")
glue_value("largest_step", change.idxmax())
exchanged = {
    "vocoder": change.abs().filter(like="vocoder for").mean(),
    "VAE": change.abs()[["VAE (Griffin-Lim)", "VAE (vocoder)"]].mean(),
}
glue_value("bottleneck", max(exchanged, key=exchanged.get))
phase = results.differences(judged.table, asked, "multi_resolution_stft")["difference"]
glue_value("phase_stft", phase.iloc[0], "+.2f")

# %% tags=["hide-input"]
axes = points_with_intervals(
    costs.reset_index(names="step"),
    "change of log-mel distance, dB (right is worse)",
    category="step",
    reference=0.0,
    values=("difference", "low", "high"),
)
figure_caption(
    axes.figure,
    "fig-steps",
    f"Cost of each step by itself: paired differences over clips with 95 % interval. {about}.",
    "One row a step; the zero line marks no cost.",
)

# %% [markdown]
# The dearest step is *{glue:text}`largest_step`*. The VAE adds {glue:text}`step_3` under
# Griffin-Lim and {glue:text}`step_4` under the vocoder; the vocoder in place of Griffin-Lim
# changes {glue:text}`step_2` with the true mel. Exchanging the vocoder or the VAE's mel, whichever
# moves the result more, names the bottleneck of this checkpoint: the **{glue:text}`bottleneck`**.
#
# The lost phase shows {glue:text}`step_1` here because Griffin-Lim looks for the waveform whose
# magnitudes fit best, and the log-mel hears nothing else. By the multi-resolution STFT distance,
# whose windows differ from the front end's, losing the phase costs {glue:text}`phase_stft`.
#
# ## Encoder or decoder?
#
# In the mel domain, before any phase, and on the beginning of some of the clips: the VAE's
# error, and what is left after the latent was refined by gradient steps towards the
# original's mel.

# %% tags=["show-input"]
grid = {**sound, "excerpt_seconds": excerpt_seconds, "refine_steps": refine_steps}
few = {**place, "recheck": 1, "new_clips": new_clips}
judged_refined = measure("01_refined", clips, checkpoint, grid, **few)
whole = results.summarise(results.select(judged.table, metric="mel_error", stage="mel", band=""))
mel = results.summarise(judged_refined.table)

# %% tags=["hide-input"]
labels = {"vae": "encoder's latent", "refined-latent": "refined latent (oracle)"}
share = mel.assign(band=mel["band"].replace("", "all bands"), method=mel["method"].replace(labels))
bands = [band_name(low, high) for low, high in MEL_BANDS]
axes = points_with_intervals(
    share,
    "mean absolute log-mel error, nat (less is better)",
    category="band",
    series="method",
    order=["all bands", *bands],
)
figure_caption(
    axes.figure,
    "fig-encoder-decoder",
    "Error of the VAE's mel by band, and of the best latent found (oracle), on excerpts. "
    f"n = {judged_refined.n}; {judged_refined.source}; checkpoint {checkpoint}.",
    "Two points a frequency band: the VAE's error, and left of it that of the refined latent.",
)

# %% tags=["hide-input", "remove-output"]
error = mel.set_index(["method", "band"])["mean"]
glue_value("vae_nat", whole["mean"].iloc[0], ".3f", "nat")
glue_value("excerpt_nat", error["vae", ""], ".3f", "nat")
glue_value("refined_nat", error["refined-latent", ""], ".3f", "nat")
glue_value("encoder_share", 100 * (1 - error["refined-latent", ""] / error["vae", ""]), ".0f", "%")
glue_value("worst_band", error["vae"].drop("").idxmax())
glue_value("worst_band_nat", error["vae"].drop("").max(), ".3f", "nat")

# %% [markdown]
# The VAE's error on whole clips is {glue:text}`vae_nat`. On the excerpts it is
# {glue:text}`excerpt_nat`, and refining the latent brings it to {glue:text}`refined_nat`, so
# at least {glue:text}`encoder_share` of it could be avoided without touching the decoder. The
# worst band is {glue:text}`worst_band` with {glue:text}`worst_band_nat`.
#
# ## By kind of sound

# %% tags=["hide-input", "remove-output"]
by_class = judged.table[
    (judged.table["metric"] == "log_mel_distance") & (judged.table["band"] == "")
]
by_class = by_class[by_class["method"].isin(paths)]
text, shown = NO_CLASS, None
if by_class["class"].any():
    wide = by_class.replace({"class": {"": "no class"}})
    wide = wide.pivot_table(index="class", columns="method", values="value")[paths]
    wide = wide.sort_values("vae").rename(index=lambda name: name.replace("_", " "))
    text = (
        f"Through VAE and vocoder, {wide.index[0]} keeps most and {wide.index[-1]} least. "
        "Classes of few clips are anecdotes."
    )
    shown = figure_caption(
        heatmap(wide, "log-mel distance, dB", "path", "class").figure,
        "fig-classes",
        f"Log-mel distance by class and path, mean over the clips of a class. {about}.",
        "A table of numbers, one row a class of sound, darker or lighter with the distance.",
    )
glue_value("by_class", text)

# %% tags=["hide-input"]
shown

# %% [markdown]
# {glue:text}`by_class`
#
# ## One clip looked at

# %% tags=["hide-input"]
first = found[0]
figure_caption(
    spectrogram_pair(first.reference, first.audio["vae"], 16000, ("16 kHz clip", "VAE + vocoder")),
    "fig-pair",
    f"The clip {first.clip.name} before and after, and the difference. n = 1, "
    f"checkpoint {checkpoint}.",
    "Two spectrograms and their difference; fine structure is blurred after reconstruction.",
)

# %% [markdown]
# ## Attack the metrics before trusting them
#
# Changes whose audibility is known. Inverted polarity sounds the same, and so does a delay
# of 5 ms. A low-pass at 1 kHz is plainly heard, and so is added noise. The attacks are
# made on {glue:text}`n_attacks` of the clips.

# %% tags=["show-input", "remove-output"]
judged_attacks = measure("01_attacks", clips, checkpoint, sound, **few)
glue_value("n_attacks", judged_attacks.n, "d")
whole = judged_attacks.table[judged_attacks.table["band"] == ""]
by_attack = results.summarise(whole, by=("stage", "metric"))
keys = {"polarity": "inverted polarity", "delay": "5 ms later", "lowpass": "1 kHz low-pass"}
score = by_attack.pivot(index="stage", columns="metric", values="mean").loc[list(keys.values())]
score = score.set_axis(list(keys)).reindex(columns=["snr", "visqol", "log_mel_distance"])
glue_table(score["snr"], "{}_snr", ".1f", "dB")
glue_table(score["visqol"], "{}_visqol", ".2f")
glue_table(score["log_mel_distance"], "{}_mel", ".1f", "dB")

# %% tags=["hide-input"]
chosen = [
    "snr",
    "correlation",
    "si_sdr",
    "mae",
    "log_mel_distance",
    "multi_resolution_stft",
    "visqol",
]
results.tabulate(by_attack[by_attack["metric"].isin(chosen)], rows="stage")

# %% [markdown]
# Inverted polarity has an SNR of {glue:text}`polarity_snr` and sounds the same: ViSQOL gives it
# {glue:text}`polarity_visqol` and the log-mel distance is {glue:text}`polarity_mel`. A delay
# nobody hears costs the SNR as much ({glue:text}`delay_snr`). The low-pass, which everybody
# hears, has the better SNR of {glue:text}`lowpass_snr`, while its log-mel distance is
# {glue:text}`lowpass_mel`. A vocoder that makes up the phase is in the position of the first
# two: its waveform differs everywhere, whatever it sounds like. So waveform SNR, SI-SDR, MAE and
# correlation are reported in this book and judge nothing.
#
# The spectral measures are blind in turn: none of them hears phase, so a smeared attack or a
# metallic Griffin-Lim can score well, and ViSQOL saturates near its ceiling. No single number
# decides; the players are there for that.
#
# ## Front-end mistakes
#
# Each public mistake, made on purpose: a wrong mel goes through VAE and vocoder, and the result
# is compared with the clip. `audioldm_utils.studies.mistakes.check_mel` names them in a foreign
# mel.

# %% tags=["show-input", "remove-output"]
judged_mistakes = measure("01_mistakes", clips, checkpoint, sound, **few)
dear = judged_mistakes.table[judged_mistakes.table["metric"] == "log_mel_distance"]
cost = results.summarise(dear, by=("stage", "metric")).sort_values("mean")
glue_value("right_mel", cost.set_index("stage")["mean"]["none"], ".1f", "dB")
glue_value("worst_mistake", cost["stage"].iloc[-1])
glue_value("worst_mistake_mel", cost["mean"].iloc[-1], ".1f", "dB")

# %% tags=["hide-input"]
axes = points_with_intervals(cost, "log-mel distance, dB (less is better)", category="stage")
figure_caption(
    axes.figure,
    "fig-mistakes",
    "Log-mel distance of VAE and vocoder fed by each front-end mistake; «none» is the right "
    f"front end. n = {judged_mistakes.n}; checkpoint {checkpoint}.",
    "One row a mistake, from the right front end at the top to the dearest mistake.",
)

# %% [markdown]
# The right front end leaves {glue:text}`right_mel`; the dearest mistake,
# *{glue:text}`worst_mistake`*, leaves {glue:text}`worst_mistake_mel`.
#
# ## Limits
#
# All of this describes the checkpoint named in the captions. `mini` is small and was trained on
# few hours of sound; the published model has a much larger VAE. The ladder's order
# and the tools carry over, the numbers do not: run this notebook with `-p checkpoint` and see.
# The refined latent is an upper bound on the encoder's share found by a few gradient steps, not
# a proof that no better latent exists. Griffin-Lim's and the vocoder's errors are measured by
# the same front end that feeds them.
#
# ## Next
#
# What can be repaired without training anything is the next question; the tables above are
# among the downloads of the execution page.
