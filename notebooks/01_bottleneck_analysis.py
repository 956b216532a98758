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
# :::{admonition} The answer
# :class: tip
#
# **Question.** A recording goes through AudioLDM2's front end, VAE and vocoder, without any
# diffusion. Which part loses what?
#
# **Answer.** {glue:text}`answer` ({glue:text}`source`; chroma on the {glue:text}`n_tonal` tonal
# ones; means with 95 % intervals over recordings.)
#
# **What would have changed our mind:**
#
# - The vocoder costs more than the VAE, by all three measures: **{glue:text}`claim_1`**.
# - The fitted inverse in the vocoder's place still costs more than the VAE, by all three:
#   **{glue:text}`claim_2`**.
# - From the VAE's mel, the fitted inverse keeps pitch better than Griffin-Lim:
#   **{glue:text}`claim_3`**.
# - By multi-resolution STFT distance, which hardly sees phase, the fine detail of magnitude that
#   a mel loses costs more than the phase that it loses: **{glue:text}`claim_4`**.
# - The VAE's mel is further from the recording's than that of a linear map of as many numbers:
#   **{glue:text}`claim_5`**.
#
# **What to do.** {glue:text}`advice` The fitted inverse is a network of {glue:text}`inverse_size`
# parameters that this project trained{glue:text}`inverse_time`. It reads the mel alone, so it works
# with every checkpoint of this front end; what it gains there was not measured.
# :::
#
# A claim is *upheld* or *refuted* where the whole interval says so, else *undecided*.
#
# A recording that takes this path comes back changed, although no diffusion has taken place. This
# chapter takes the path apart, one stage at a time, and measures what each stage loses.

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips: any format, rate and length
checkpoint: str = "mini"  # `mini`, a checkpoint folder, or a hub id
device: str = "cpu"  # where the networks run: cpu, cuda or mps
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

import pandas as pd

from audioldm_utils.audio.clips import load_clip
from audioldm_utils.audio.survey import NO_CLASS, usable_clips
from audioldm_utils.book.listening import Row, Take, abx, players
from audioldm_utils.book.plotting import (
    figure_caption,
    glue_object,
    glue_table,
    glue_value,
    heatmap,
    look,
    plain_table,
    points_with_intervals,
    spectrogram_pair,
    style,
    summary_table,
)
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.inverse import load_inverse
from audioldm_utils.model.networks import Networks
from audioldm_utils.results import summaries as results

# %% tags=["hide-input"]
from audioldm_utils.studies import bottleneck, mistakes, model_card, stage_costs
from audioldm_utils.studies.rows import MEL_BANDS, band_name
from audioldm_utils.studies.run import measure
from audioldm_utils.studies.verdicts import FEWEST, difference, of, reduction, told

style()
clips = usable_clips(audio_dir, limit)
networks = Networks(load(checkpoint, device=device), synthesis=synthesis)

# %% [markdown]
# ## Method
#
# The front end makes a natural-log mel spectrogram $m = \ln \max(M |S|, 10^{-5})$ of 64 bands
# and 100 frames a second from 16 kHz audio. The VAE's encoder maps it to latents
# $z = E(m)$, 8 channels at a quarter of both resolutions; its decoder gives
# $\hat m = D(z)$. A **synthesis** makes a waveform $\hat x$ of the mel and invents the phase.
#
# A **path** is a mel and a synthesis. The mel is one of these:
#
# - the recording's own;
# - what the **VAE** makes of it;
# - what a linear map of as many numbers makes of it: the principal components (**PCA**) of short
#   patches, fitted on train.
#
# Each goes through each synthesis:
#
# - the checkpoint's **vocoder**;
# - **{term}`Griffin-Lim`** {cite:p}`griffin1984signal`, from linear magnitudes
#   that have this mel;
# - the **fitted inverse**: a small network guesses the linear magnitudes from the mel, then
#   Griffin-Lim finds the phase;
# - the **original phase** on the mel's magnitudes. No decoder has that phase: it is an **oracle**.
#   It lacks the fine magnitudes, so it is no bound: a method may beat it.
#
# One more oracle keeps the recording's magnitudes in full and loses the phase alone.
# Paths that differ in a single step show what that step costs.
#
# The distances compare with the clip at 16 kHz. {term}`Log-mel distance <log-mel distance>` hears
# level and coarse spectrum. {term}`Multi-resolution STFT distance <multi-resolution STFT distance>`
# hears finer detail too. Neither hears pitch well, so tonal clips are also judged by **chroma
# correlation** (higher is nearer in pitch) and by the **comb excess**: the share of energy at
# multiples of the frame rate (100 Hz), less the original's, which a buzz raises. Speech is judged
# by the error of its fundamental and by {term}`STOI`, a measure of intelligibility.

# %% tags=["show-input", "remove-output"]
# The evidence is one half of the clips, whole. The next chapter takes the same, the others do not.
# Three of the evidence's clips are measured again; a reader's own are measured one and all.
place = {"out_dir": out_dir, "evidence_dir": evidence_dir, "device": device}
sound = {"seed": seed, "synthesis": synthesis}
judged = measure("01_ladder", clips, checkpoint, sound, **place, recheck=3)
claims = stage_costs.ladder_claims(judged.table)
answer = stage_costs.ladder_answer(judged.table)

# %% tags=["hide-input", "remove-output"]
about = f"{judged.source}; checkpoint {checkpoint}; seed {seed}"
for number, word in enumerate(claims.values(), 1):
    glue_value(f"claim_{number}", word)
glue_value("answer", answer["answer"])
glue_value("bottleneck", answer["bottleneck"])
glue_value("advice", answer["advice"])
glue_value("hidden", stage_costs.hidden(judged.table))
size = sum(weight.numel() for weight in load_inverse().parameters())
glue_value("inverse_size", size / 1e6, ".1f", "M")
log = model_card.read_table(networks.checkpoint.path, "curves")
hours = None if log is None else log[log["component"] == "inverse"]["seconds"].max() / 3600
glue_value("inverse_time", f", in {hours:.1f} h on a processor" if hours and hours > 0 else "")
tonal = judged.table[judged.table["metric"] == "chroma_correlation"]
spoken = judged.table[judged.table["metric"] == "stoi"]
glue_value("n", judged.n, "d")
glue_value("n_tonal", tonal["clip"].nunique(), "d")
glue_value("n_speech", spoken["clip"].nunique(), "d")
glue_value("source", judged.source)
glue_value("rests", judged.rests)

# %% [markdown]
# {glue:text}`rests`
#
# ## Listen
#
# The same clip on its way, at equal loudness. Start one and change to another while it plays.

# %% tags=["hide-input"]
shown = [load_clip(info, max_seconds=6.0) for info in clips[:: max(1, len(clips) // 4)][:4]]
found = [bottleneck.reconstruct_each_way(clip, networks, seed) for clip in shown]
heard = ("mel-griffinlim", "mel-inverse", "mel-vocoder", "pca-inverse")
heard += ("vae-griffinlim", "vae-inverse", "vae-vocoder")
rows = [
    Row(
        one.clip.name,
        [
            Take("original", one.clip.samples, one.clip.sample_rate),
            *(Take(path, one.audio[path], 16000) for path in heard),
        ],
        one.clip.caption or "",
    )
    for one in found
]
players(rows, Path(out_dir) / "listening", f"Every path, checkpoint {checkpoint}.")

# %% tags=["hide-input", "remove-output"]
glue_object("player", players(rows[:1], Path(out_dir) / "listening", f"Checkpoint {checkpoint}."))

# %% [markdown]
# Can you tell them apart without knowing which is which? X is A or B. Both come from
# the VAE's mel, or one of them is the original.

# %% tags=["hide-input"]
takes = [{take.method: take for take in row.takes} for row in rows]
asked = [("original", "vae-inverse"), ("vae-inverse", "vae-vocoder")]
pairs = [(row.clip, by[a], by[b]) for row, by in zip(rows, takes, strict=True) for a, b in asked]
abx(pairs, Path(out_dir) / "listening", trials=10)

# %% [markdown]
# ## The ladder
#
# Every path, by the distance that hears most, and by pitch.

# %% tags=["hide-input", "remove-output"]
overall = results.summarise(results.select(judged.table, band="", stage=""))
distance = overall[overall["metric"] == "log_mel_distance"].set_index("method")["mean"]
glue_table(distance, "mel_{}", ".1f", "dB")
keys = {"multi_resolution_stft": "stft", "chroma_correlation": "chroma", "visqol": "visqol"}
for metric, key in keys.items():
    part = overall[overall["metric"] == metric].set_index("method")["mean"]
    glue_table(part, f"{key}_{{}}", ".2f")
excess = overall[overall["metric"] == "comb_excess"].set_index("method")["mean"]
glue_table(excess.reindex(bottleneck.PATHS[1:]), "comb_{}", ".2f")
alone = judged.table[judged.table["metric"] == "comb_share"]["value"].mean()
glue_value("comb_original", alone, ".2f")
combs = 100 * pd.concat([pd.Series({"original": alone}), excess + alone])
glue_table(combs, "share_{}", ".0f", "%")

# %% tags=["hide-input"]
rungs = stage_costs.rungs(overall)
axes = points_with_intervals(
    rungs[rungs["metric"] == "multi_resolution_stft"],
    "multi-resolution STFT distance (less is better)",
    category="mel",
    series="synthesis",
)
axes.set_xlim(left=0)
ladder = figure_caption(
    axes.figure,
    "fig-ladder",
    "Multi-resolution STFT distance to the 16 kHz clip of three mels through four syntheses, mean "
    f"over clips with 95 % interval. {about}.",
    "One row a mel and four points in each, one a synthesis; points further right are worse.",
)
glue_object("ladder", ladder)
ladder

# %% tags=["hide-input"]
shown = "None of these clips is tonal and a second long."
part = rungs[rungs["metric"] == "chroma_correlation"]
if len(part):
    axes = points_with_intervals(
        part, "chroma correlation (right is better)", category="mel", series="synthesis"
    )
    shown = figure_caption(
        axes.figure,
        "fig-chroma",
        "Chroma correlation with the recording of the same paths, tonal clips alone: mean with "
        f"95 % interval. n = {tonal['clip'].nunique()}; {judged.source}; checkpoint {checkpoint}.",
        "One row a mel and four points in each, one a synthesis; points further left lost pitch.",
    )
shown

# %% [markdown]
# With the **recording's own mel**, the vocoder leaves a multi-resolution STFT distance of
# {glue:text}`stft_mel-vocoder`, Griffin-Lim {glue:text}`stft_mel-griffinlim` and the fitted
# inverse {glue:text}`stft_mel-inverse`. With the **VAE's mel** they leave
# {glue:text}`stft_vae-vocoder`, {glue:text}`stft_vae-griffinlim` and
# {glue:text}`stft_vae-inverse`.
#
# **Pitch.** Through VAE and vocoder, chroma correlates with the recording's by
# {glue:text}`chroma_vae-vocoder`; through VAE and fitted inverse by
# {glue:text}`chroma_vae-inverse`. Multiples of the frame rate (100 Hz) hold
# {glue:text}`share_original` of the recordings' energy, {glue:text}`share_vae-vocoder` after VAE
# and vocoder, and {glue:text}`share_vae-inverse` after VAE and fitted inverse.

# %% tags=["hide-input"]
judges = ["log_mel_distance", "multi_resolution_stft", *bottleneck.ALIGNED, "visqol"]
judges += ["log_spectral_distance", "hf_retention"]
order = [path for path in bottleneck.PATHS if path in set(overall["method"])]
summary_table(results.select(overall, metric=judges), "By spectral measures", order=order)

# %% tags=["hide-input"]
judges = ["chroma_correlation", "comb_excess", "stoi", "f0_error"]
summary_table(overall[overall["metric"].isin(judges)], "Pitch and speech", order=order)

# %% tags=["hide-input"]
judges = ["snr", "correlation", "mae"]
summary_table(overall[overall["metric"].isin(judges)], "Waveform measures", order=order)

# %% [markdown]
# The waveform measures are near zero or negative wherever the phase is invented. They judge
# nothing; a later section shows why.
#
# **The front end's band limit** compares with the clip at its own rate, since it is there that
# everything above 8 kHz goes. It has a multi-resolution STFT distance of
# {glue:text}`stft_band-limit` and a ViSQOL of {glue:text}`visqol_band-limit`, where the whole path
# by VAE and vocoder has a ViSQOL of {glue:text}`visqol_vae-vocoder` beside the clip at 16 kHz.
#
# ## VAE or synthesis?
#
# What each costs, clip by clip. The **synthesis** costs what it loses of the recording's own mel.
# The **VAE** costs the increase of the distance when the VAE's mel replaces the true one. By
# log-mel error it is measured on the mel itself. By chroma, a cost is what is missing to a perfect
# correlation.

# %% tags=["hide-input"]
plain_table(stage_costs.cost_table(judged.table))

# %% [markdown]
# The last column names the one whose cost is larger by the whole interval of the difference.
# {glue:text}`hidden`
#
# ## What each step costs by itself
#
# Differences of paths by multi-resolution STFT distance, clip by clip, so that a clip that is
# hard everywhere does not count.

# %% tags=["hide-input", "remove-output"]
steps = {
    "phase lost, magnitudes kept": ("stft-griffinlim", None),
    "magnitudes of the mel, phase kept": ("mel-original-phase", None),
    "fitted inverse for Griffin-Lim": ("mel-inverse", "mel-griffinlim"),
    "vocoder for Griffin-Lim": ("mel-vocoder", "mel-griffinlim"),
    "PCA (fitted inverse)": ("pca-inverse", "mel-inverse"),
    "VAE (fitted inverse)": ("vae-inverse", "mel-inverse"),
    "VAE (Griffin-Lim)": ("vae-griffinlim", "mel-griffinlim"),
    "VAE (vocoder)": ("vae-vocoder", "mel-vocoder"),
}
cost = stage_costs.step_costs(judged.table, steps, "multi_resolution_stft")
for number, change in enumerate(cost["difference"], 1):
    glue_value(f"step_{number}", change, "+.2f")

# %% tags=["hide-input"]
axes = points_with_intervals(
    cost,
    "change of multi-resolution STFT distance (right is worse)",
    category="step",
    reference=0.0,
    values=("difference", "low", "high"),
)
figure_caption(
    axes.figure,
    "fig-steps",
    "What each step costs by itself: the first rows against the recording, the others as paired "
    f"differences over clips, with 95 % interval. {about}.",
    "One row a step; the zero line marks no cost, and points left of it are gains.",
)

# %% [markdown]
# Losing the phase alone costs {glue:text}`step_1`. Losing the fine detail of the magnitudes alone,
# which mel bands cannot hold, costs {glue:text}`step_2`, by a measure that sees phase only through
# the overlap of its windows. The fitted inverse guesses some of that detail from its neighbourhood
# and changes the distance by {glue:text}`step_3` against Griffin-Lim; the vocoder changes it by
# {glue:text}`step_4`. The VAE adds {glue:text}`step_6` under the fitted
# inverse, {glue:text}`step_7` under Griffin-Lim and {glue:text}`step_8` under the vocoder. PCA adds
# {glue:text}`step_5` under the fitted inverse.
#
# ## Encoder or decoder?
#
# In the mel domain, before any synthesis: is the VAE near what as many numbers can
# hold? And does its encoder find the latent that its decoder would need? For the second,
# gradient steps refine the latent of an excerpt towards the recording's mel (an oracle).

# %% tags=["show-input"]
grid = {**sound, "excerpt_seconds": excerpt_seconds, "refine_steps": refine_steps}
few = {**place, "recheck": 1, "new_clips": new_clips}
judged_refined = measure("01_refined", clips, checkpoint, grid, **few)
whole = results.summarise(results.select(judged.table, metric="mel_error", stage="mel"))
mel = results.summarise(judged_refined.table)

# %% tags=["hide-input"]
share = mel.replace({"method": {"vae": "VAE, the same excerpts"}})
share = pd.concat([whole, share])
share = share.assign(band=share["band"].replace("", "all bands"))
bands = [band_name(low, high) for low, high in MEL_BANDS]
axes = points_with_intervals(
    share,
    "mean absolute log-mel error, nat (less is better)",
    category="band",
    series="method",
    order=["all bands", *bands],
)
axes.set_xlim(left=0)
figure_caption(
    axes.figure,
    "fig-encoder-decoder",
    "Error of the VAE's mel and of PCA with as many numbers, by band, on whole clips; of the VAE "
    f"and of the best latent found (oracle) on n = {judged_refined.n} excerpts. {judged.source}; "
    f"checkpoint {checkpoint}.",
    "Points of VAE, PCA, and the refined latent a frequency band; further left is nearer.",
)

# %% tags=["hide-input", "remove-output"]
error = mel.set_index(["method", "band"])["mean"]
before = whole.set_index(["method", "band"])["mean"]
glue_value("vae_nat", before["vae", ""], ".3f", "nat")
glue_value("pca_nat", before["pca", ""], ".3f", "nat")
glue_value("excerpt_nat", error["vae", ""], ".3f", "nat")
glue_value("refined_nat", error["refined-latent", ""], ".3f", "nat")
shares = [of(name, "mel excerpt") for name in ("refined-latent", "vae")]
shares = reduction(judged_refined.table, *shares, "mel_error")
glue_value("encoder_share", told(shares, ".0%").replace("%", "\N{NARROW NO-BREAK SPACE}%"))
worse = difference(judged.table, of("vae", "mel"), of("pca", "mel"), "mel_error")
glue_value("vae_over_pca", told(worse, "+.3f", "nat"))
glue_value("n_refined", judged_refined.n, "d")
glue_value("worst_band", before["vae"].drop("").idxmax())
glue_value("worst_band_nat", before["vae"].drop("").max(), ".3f", "nat")

# %% [markdown]
# The VAE's mel error on whole clips is {glue:text}`vae_nat`; that of PCA with as many numbers is
# {glue:text}`pca_nat`. The VAE's is {glue:text}`vae_over_pca` beside it. So much is this VAE's, and
# says nothing of the published one. The VAE's worst band is {glue:text}`worst_band`, with
# {glue:text}`worst_band_nat`.
#
# On {glue:text}`n_refined` excerpts the VAE's error is {glue:text}`excerpt_nat`. The refined latent
# leaves {glue:text}`refined_nat`. So **at least** {glue:text}`encoder_share` of the error is the
# encoder's: the same decoder would do without it. More steps could only find more, so this is a
# lower bound on the encoder's share. What remains is the decoder's, or was not found.
#
# ## What holds for every checkpoint
#
# Some losses follow from the layout alone, whatever the weights. Tests check them, on the published
# layout with random weights (`tests/model/test_structure.py`, `tests/studies/test_pca.py`).
#
# - **A mel that stands still becomes a buzz.** Every layer of the vocoder commutes with a shift
#   by a mel frame. So a mel that does not change gives a waveform that repeats every frame, and
#   holds nothing but multiples of the frame rate (100 Hz). The vocoder can hold another steady tone
#   only as long as something within its receptive field changes.
# - **Nothing above 8 kHz.** The front end hears 16 kHz audio. What lies above half of that rate
#   leaves no trace in the mel.
# - **Polarity is lost, and waveform SNR with it.** A recording and its inverse have the same mel,
#   hence the same output. No output can have an SNR above 0 dB on both.
# - **Lost phase.** The path from the recording's own magnitudes through Griffin-Lim uses no
#   checkpoint. It loses the phase alone, at a cost of {glue:text}`step_1`. So the phase alone need
#   not cost more.
# - **As many numbers.** The VAE keeps half as many numbers as the mel has. Of all linear maps of a
#   patch to so few numbers and back, principal components have the least squared error. A linear
#   VAE that sees no further than its patch cannot beat them. The VAE's normalisation layers see the
#   whole clip, so it can.
#
# ## By kind of sound

# %% tags=["hide-input", "remove-output"]
by_class = results.select(judged.table, metric="multi_resolution_stft", band="")
paths = [path for path in bottleneck.PATHS if path.startswith(("mel-", "vae-"))]
by_class = by_class[by_class["method"].isin(paths)]
text, shown = NO_CLASS, None
if by_class["class"].any():
    wide = by_class.replace({"class": {"": "no class"}})
    wide = wide.pivot_table(index="class", columns="method", values="value")[paths]
    count = by_class.groupby("class")["clip"].nunique().rename({"": "no class"})
    wide = wide.sort_values("vae-inverse")
    wide = wide.rename(index=lambda name: f"{name.replace('_', ' ')} ({count[name]})")
    text = (
        f"{(count < FEWEST).sum()} of {len(count)} classes have fewer than {FEWEST} clips (their "
        "number stands behind the name): single cases, which rank no classes. Rows are in the "
        "order of VAE and fitted inverse."
    )
    wide = wide.rename(columns=lambda name: look(name).label.removesuffix(" (oracle)"))
    shown = figure_caption(
        heatmap(wide, "multi-resolution STFT distance").figure,
        "fig-classes",
        "Multi-resolution STFT distance by class and path, mean over the clips of a class; paths "
        f"with the original phase are oracles. {about}.",
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
titles = ("16 kHz clip", "VAE + vocoder")
figure_caption(
    spectrogram_pair(first.reference, first.audio["vae-vocoder"], 16000, titles),
    "fig-pair",
    f"The clip {first.clip.name} before and after VAE and vocoder, and the difference. n = 1, "
    f"checkpoint {checkpoint}.",
    "Two spectrograms and their difference in level.",
)

# %% tags=["hide-input"]
titles = ("16 kHz clip", "VAE + fitted inverse")
figure_caption(
    spectrogram_pair(first.reference, first.audio["vae-inverse"], 16000, titles),
    "fig-pair-inverse",
    f"The clip {first.clip.name} before and after VAE and fitted inverse, and the difference. "
    f"n = 1, checkpoint {checkpoint}.",
    "Two spectrograms and their difference in level.",
)

# %% [markdown]
# ## Attack the metrics before trusting them
#
# Changes whose audibility is known. Inverted polarity sounds the same, and so does a delay of
# 5 ms. The others are plainly heard: a low-pass at 1 kHz, added noise, all pitches a semitone up at
# the same tempo, a comb filter that buzzes at the frame rate (100 Hz), and the recording backwards.
# The attacks are made on {glue:text}`n_attacks` of the clips.

# %% tags=["show-input", "remove-output"]
judged_attacks = measure("01_attacks", clips, checkpoint, sound, **few)
glue_value("n_attacks", judged_attacks.n, "d")
whole = judged_attacks.table[judged_attacks.table["band"] == ""]
by_attack = results.summarise(whole, by=("stage", "metric"))

# %% tags=["hide-input", "remove-output"]
keys = {
    "polarity": "inverted polarity",
    "delay": "5 ms later",
    "lowpass": "1 kHz low-pass",
    "semitone": "one semitone up",
    "buzz": "100 Hz comb",
    "backwards": "backwards",
}
score = by_attack.pivot(index="stage", columns="metric", values="mean").loc[list(keys.values())]
score = score.set_axis(list(keys))
score = score.reindex(columns=bottleneck.ATTACK_JUDGES)
glue_table(score["snr"], "{}_snr", ".1f", "dB")
glue_table(score["log_mel_distance"], "{}_mel", ".1f", "dB")
glue_table(score["log_mel_distance_aligned"], "{}_mel_aligned", ".1f", "dB")
for metric, key in (
    ("visqol", "visqol"),
    ("multi_resolution_stft", "stft"),
    ("multi_resolution_stft_aligned", "stft_aligned"),
    ("chroma_correlation", "chroma"),
    ("comb_excess", "comb"),
):
    glue_table(score[metric], f"{{}}_{key}", ".2f")

# %% tags=["hide-input"]
order = [*bottleneck.attacks()]
summary_table(by_attack, "Every attack by every metric", rows="stage", order=order)

# %% [markdown]
# **The waveform measures are no judges.** Inverted polarity has an SNR of
# {glue:text}`polarity_snr` and sounds the same: ViSQOL gives it {glue:text}`polarity_visqol`, the
# log-mel distance is {glue:text}`polarity_mel`. A delay that nobody hears has an SNR of
# {glue:text}`delay_snr`. The low-pass, which everybody hears, has {glue:text}`lowpass_snr`, while
# its log-mel distance is {glue:text}`lowpass_mel`. Every synthesis here invents the phase, so its
# waveform differs everywhere, whatever it sounds like.
#
# **The spectral measures have faults too.** The delay that nobody hears costs
# {glue:text}`delay_mel` of log-mel distance and {glue:text}`delay_stft` of multi-resolution STFT
# distance, because each frame holds sound that is a little earlier. Measured at the best lag of a
# few milliseconds, it costs {glue:text}`delay_mel_aligned` and {glue:text}`delay_stft_aligned`. A
# semitone, which changes every note, has a log-mel distance of {glue:text}`semitone_mel`. Its
# chroma correlation is {glue:text}`semitone_chroma`; the delay's is {glue:text}`delay_chroma`. The
# comb excess names the buzz, with {glue:text}`buzz_comb`. ViSQOL gives the recording backwards
# {glue:text}`backwards_visqol`, and it saturates near its ceiling. No single number decides; the
# players are there for that.
#
# ## Front-end mistakes
#
# Each public mistake, made on purpose: a wrong mel goes through the VAE and is made sound, and the
# result is compared with the clip. `audioldm_utils.studies.mistakes.check_mel` names them in a
# foreign mel.

# %% tags=["show-input", "remove-output"]
judged_mistakes = measure("01_mistakes", clips, checkpoint, sound, **few)
dear = judged_mistakes.table[judged_mistakes.table["metric"] == "log_mel_distance"]
cost = results.summarise(dear, by=("stage", "metric")).sort_values("mean")
glue_value("right_mel", cost.set_index("stage")["mean"]["none"], ".1f", "dB")
glue_value("worst_mistake", cost["stage"].iloc[-1])
glue_value("worst_mistake_mel", cost["mean"].iloc[-1], ".1f", "dB")
glue_value("n_mistakes", judged_mistakes.n, "d")

# %% tags=["hide-input"]
axes = points_with_intervals(cost, "log-mel distance, dB (less is better)", category="stage")
figure_caption(
    axes.figure,
    "fig-mistakes",
    "Log-mel distance through the VAE, fed by each front-end mistake; «none» is the right front "
    f"end. n = {judged_mistakes.n}; {judged_mistakes.source}; checkpoint {checkpoint}.",
    "One row a mistake, from the right front end at the top to the worst mistake.",
)

# %% tags=["hide-input"]
told_of = {name: mistakes.TEXTS[name][0] for name in mistakes.MISTAKES}
told_of = pd.DataFrame(told_of.items(), columns=["mistake", "what it is"])
plain_table(told_of, caption="What each mistake is", folded=True)

# %% [markdown]
# The right front end leaves {glue:text}`right_mel`; the worst mistake,
# *{glue:text}`worst_mistake`*, leaves {glue:text}`worst_mistake_mel` (n = {glue:text}`n_mistakes`).
#
# ## Limits
#
# All of this describes the checkpoint named in the captions. `mini` is small and was trained on
# few hours of sound; the published model has a much larger VAE. Neither the numbers nor their
# order need hold there, apart from what follows from the layout alone: run this notebook with
# `-p checkpoint` and see. Chroma says little of sounds without pitch, so it is measured on tonal
# classes alone. The error of the fundamental counts only frames that are voiced on both sides, in
# coarse steps and on few recordings: a hint.
# The log-mel distance of a synthesis is measured by the same front end that fed it. The fitted
# inverse and the components of PCA were fitted on train, from which the VAE has learnt as well.
# After an earlier look at paths and attacks on eval clips, spectral measures were changed at an
# excerpt's edges; `book/evidence/HISTORY.md` lists every look.
#
# ## Next
#
# What can be repaired without changing the checkpoint is the next question; the tables above are
# among the downloads of the execution page.
