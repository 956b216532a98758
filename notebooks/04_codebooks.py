# ---
# jupyter:
#   audioldm_utils:
#     tiny:
#       new_clips: 1
#       seconds: 1.28
#       softness:
#       - 1.0
#       steps: 4
#       temperatures:
#       - 0.5
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
# # Codebooks
#
# :::{admonition} The answer
# :class: tip
# **Question.** What can a choice of noise gain, which codebook gets nearest to that, and at what
# cost in seconds and memory?
#
# {glue:text}`answer`
#
# What would change our mind, and what was found («as well» allows a difference in efficiency of
# {glue:text}`margin`):
#
# - On white residuals, shifts do as well as theory says of as many independent entries.
#   **{glue:text}`claim_1`**
# - On the denoiser's own residuals, shifts do as well as {glue:text}`theory_entries` independent
#   entries, for each bit. **{glue:text}`claim_2`**
# - The mask of signs makes shifts better there, over all noise levels. **{glue:text}`claim_3`**
# - At {glue:text}`equal_rate`, shifts leave a smaller mel error than fitted atoms.
#   **{glue:text}`claim_4`** (difference {glue:text}`fitted_less`)
#
# **What to do.** {glue:text}`advice` On one core, a choice among all shifts of
# {glue:text}`cost_seconds` takes {glue:text}`choose_shift`; among {glue:text}`theory_entries`
# independent entries {glue:text}`choose_paper` with the codebook in memory
# ({glue:text}`paper_memory`, drawn in {glue:text}`paper_draw` a step), or
# {glue:text}`choose_chunks` without.
# :::
#
# DDCM replaces the noise of each reverse step by an entry of a {term}`codebook`
# {cite:p}`ohayon2025ddcm`. Which codebook, and how an entry is chosen, decides how much of every
# stored bit ends up as direction towards the sound.

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips: any format, rate and length
checkpoint: str = "mini"  # `mini`, a checkpoint folder, or a hub id
device: str = "cpu"  # where the networks run: cpu, cuda or mps
out_dir: str = "build/results/04_codebooks"  # where tables are written
evidence_dir: str = "book/evidence"  # committed tables that findings rest on
seed: int = 0  # of codebooks and starting noise
limit: int = 0  # use only so many clips; 0 for all
new_clips: int = 1  # clips that are measured where the evidence holds none of them; 0 for all
seconds: float = 2.56  # of a clip's beginning
steps: int = 16  # network calls of an encoding
temperatures: list[float] = [0.3, 1.0]  # of a choice, between the best atom (0) and chance (inf)
softness: list[float] = [0.1, 0.5, 2.0]  # of a quantiser, squared latent units, beside the hard one

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import pandas as pd

from audioldm_utils.audio.survey import usable_clips
from audioldm_utils.book.plotting import (
    curves,
    figure_caption,
    glue_table,
    glue_value,
    look,
    plain_table,
    style,
)
from audioldm_utils.bounds import as_lists
from audioldm_utils.results import summaries as results
from audioldm_utils.studies import choices
from audioldm_utils.studies import codebook_theory as tables
from audioldm_utils.studies.run import measure
from audioldm_utils.studies.verdicts import difference, of, told

style()
# papermill's -p hands lists over as text.
temperatures, softness = as_lists(temperatures, softness)
clips = usable_clips(audio_dir, limit)

# %% [markdown]
# ## Definition
#
# A codebook $C_i$ holds, for each step $i$, $K$ vectors of as many values as the latents have.
# Their values look like standard normal noise, which is what the denoiser was trained to remove.
# The encoder takes the entry that points best towards the residual
# $r_i = x_0 - \hat x_{0|i}$,
#
# $$k_i = \arg\max_k \langle C_i(k), r_i \rangle ,$$
#
# and $\log_2 K$ bits name it. With cosine $c$ between entry and residual and $N$ latent values, the
# **{term}`efficiency <efficiency of a choice>`** of a choice of $b$ bits is
#
# $$\eta = \frac{-N \log_2 (1 - c^2)}{2 b} ,$$
#
# which is $1$ for an ideal Gaussian code and $0$ for a random choice. The cosine itself stays
# small, since one choice fixes few of $N$ values; the efficiency is what codebooks are compared by.
# The codebooks:
#
# - **independent**: $K$ vectors drawn on their own, the paper's way. Any entry can be made alone
#   from (seed, step, entry).
# - **cyclic shifts**: one drawn vector; its $N$ shifts with both signs are $2N$ entries. One FFT
#   gives all their inner products. A fixed mask of signs keeps a smooth residual from looking
#   alike under neighbouring shifts. More *bases* are more drawn vectors.
# - **several atoms**: a choice from a fresh codebook, then another against what is left.
# - **thresholding**, as Turbo-DDCM {cite:p}`vaisman2026turbo` does: the entries of largest inner
#   product from one codebook, with signs; the set is ranked, so that its order costs nothing.
# - **matching pursuit**: the paper's way to several entries, with quantised coefficients.
# - **k-means**: directions fitted on blocks of real residuals.
#
# ## What a choice can gain
#
# The best of $K$ normal inner products grows as $\sqrt{2 \ln K}$. Each doubling of $K$ costs a
# bit and raises the cosine only a little.

# %% tags=["hide-input", "remove-output"]
table = tables.read_efficiency(evidence_dir)
white = table[(table["residual"] == "white") & (table["atoms"] == 1)]
white = white[white["method"].isin(["ddcm", "ddcm-gaussian"])]
measured = white.assign(mean=white["cosine"], low=white["cosine"], high=white["cosine"])
theory = tables.cosine_theory([2**power for power in range(5, 24)])
one = table[(table["method"] == "ddcm") & (table["bits"] == 16)].set_index("residual")
glue_value("values", tables.VALUES, ",d")
glue_value("draws", one["n"].max(), "d")
glue_value("white_16", one.loc["white", "mean"], ".2f")
glue_value("cosine_16", one.loc["white", "cosine"], ".4f")
glue_value("worked", tables.efficiency(one.loc["white", "cosine"], tables.VALUES, 16), ".2f")
shifts = table[(table["method"] == "ddcm") & (table["atoms"] == 1)]
shifts = shifts[shifts["residual"] == "white"]
glue_value("bits_16", one["bits"].max(), ".0f", "bit")
glue_value("white_16_low", one.loc["white", "low"], ".3f")
glue_value("theory_16", one.loc["white", "theory"], ".2f")
glue_value("smooth_16", one.loc["smooth", "mean"], ".2f")
plain = table[table["codebook"] == "cyclic shift, no mask"]["mean"].iloc[0]
glue_value("no_mask", plain, ".2f")

# %% tags=["hide-input"]
axes = curves(
    pd.concat([theory, measured]), "size", "codebook size K", "cosine with the residual",
    log_x=True,
)  # fmt: skip
axes.xaxis.set_major_locator(plt.matplotlib.ticker.LogLocator(base=10))
figure_caption(
    axes.figure,
    "fig-cosine",
    "Cosine of the best of K entries with a white residual: measured (points) on the curve that "
    f"theory gives for independent ones. N = {tables.VALUES:,}; n = 128 to 256 draws; seed 0; no "
    "checkpoint.",
    "A slowly rising curve over a logarithmic axis of K, with the measured points lying on it.",
)

# %% [markdown]
# Shifts of one vector are not independent of each other. At {glue:text}`bits_16` their best has a
# cosine of {glue:text}`cosine_16` with the residual, which is an efficiency of
# {glue:text}`white_16` ({glue:text}`draws` draws, {glue:text}`values` values; lower end of the
# interval {glue:text}`white_16_low`). Theory expects an efficiency of {glue:text}`theory_16` of as
# many independent entries. Worked: $N$ = {glue:text}`values`, $c$ = {glue:text}`cosine_16` and
# $b$ = {glue:text}`bits_16` give $\eta$ = {glue:text}`worked`. Several atoms a step are as
# efficient as one; each costs as much time. They are for rates that pay more bits a step.
#
# ## Efficiency over rate

# %% tags=["hide-input"]
turbo = tables.turbo_theory(16384, [10, 30, 60, 100, 200, 300])
shown = pd.concat([tables.over_bits(table), turbo])
axes = curves(shown, "bits", "bits of a step's choice", "efficiency (more is better)", log_x=True)
axes.set_ylim(0.2, 1.0)
figure_caption(
    axes.figure,
    "fig-efficiency",
    "Efficiency of a choice over its bits on white residuals. Mean with 95 % interval; the line of "
    f"theory is that of thresholding. N = {tables.VALUES:,}; n = 128 to 256 draws; seed 0; no "
    "checkpoint.",
    "Curves of efficiency over bits, one a codebook, and the theory of thresholding.",
)

# %% tags=["hide-input", "hide-output"]
columns = ["codebook", "atoms", "bits", "residual", "efficiency", "low", "high", "theory", "n"]
named = table["codebook"].str.replace("Turbo-style", "thresholding").str.replace(", C=", ", bits=")
plain_table(table.assign(codebook=named, bits=table["bits"].map("{:.0f}".format))[columns])

# %% [markdown]
# On residuals smoothed over time and frequency, shifts keep {glue:text}`smooth_16`;
# without the mask they have {glue:text}`no_mask`. k-means atoms are fitted on such smooth residuals
# and go far beyond one there: one bounds codes of white residuals only, and fitted atoms know the
# few directions that smooth ones take. Noise of that kind is not what a denoiser expects; what that
# costs is measured below.
#
# ## Real residuals
#
# The same choices on the residuals of the checkpoint's own denoiser, at several noise levels, and
# on white residuals of the same clips' size.

# %% tags=["show-input", "remove-output"]
softer = {"temperatures": temperatures, "softness": softness}
grid = {"seed": seed, "seconds": seconds, "steps": steps, **softer}
place = {"out_dir": out_dir, "evidence_dir": evidence_dir, "device": device}
judged = measure("04_choices", clips, checkpoint, grid, **place, recheck=1, new_clips=new_clips)
about = f"n = {judged.n}; {judged.source}; checkpoint {checkpoint}; seed {seed}"
summary = results.summarise(judged.table, by=("method", "stage", "metric"))
real = summary[(summary["metric"] == "efficiency") & summary["stage"].str.startswith("real")]
real = real.assign(level=real["stage"].str.split(", ").str[1].astype(float))
over = judged.table[judged.table["metric"] == "efficiency"]
mean = over[over["stage"].str.startswith("real")].groupby("method")["value"].mean()
short = {"ddcm": "shift", "ddcm, no mask": "plain", "ddcm-gaussian": "paper"}
glue_table(mean[list(short)].rename(short), "real_{}", ".2f")
glue_value("n", judged.n, "d")
glue_value("rests", judged.rests)

# %% tags=["hide-input", "remove-output"]
claims = choices.claims(judged.table, shifts)
for key, word in claims.items():
    glue_value(key, word)
count = round(seconds * 25) * 128  # latent values of an excerpt
sizes = tuple(tables.expected_efficiency(size, count) for size in (2 * count, 1024))
glue_value("answer", choices.answer(judged.table, claims["claim_2"], judged.source, sizes))
glue_value("advice", choices.advice(claims))
glue_value("margin", choices.MARGIN, "g")
glue_value("theory_entries", 1024, ",d")
glue_value("excerpt_values", count, ",d")
glue_value("excerpt_entries", 2 * count, ",d")
glue_value("by_level", choices.by_level(judged.table))
glue_value("sampled", choices.sampled(judged.table))
less = difference(
    judged.table, *(of(name, "equal rate") for name in ("ddcm", "ddcm-kmeans")), "mel_error"
)
glue_value("fitted_less", told(less, "+.3f", "nat"))
bits = summary[summary["metric"] == "rate"].groupby("stage")["mean"].mean()
for key, stage in (("equal_rate", "equal rate"), ("soft_rate", "temperature 0")):
    kbps = bits.get(stage, float("nan")) * count / seconds / 1000
    glue_value(key, kbps, ".2f", "kbit/s")
kbps = f"{bits.get('equal rate', 0) * count / seconds / 1000:.2f} kbit/s"
glue_value("quantised", choices.quantised(judged.table, kbps))

# %% tags=["hide-input"]
axes = curves(real, "level", "alpha-bar of the step", "efficiency (more is better)", log_x=True)
figure_caption(
    axes.figure,
    "fig-real",
    "Efficiency of a choice on real residuals over the noise level (small alpha-bar is much "
    f"noise), mean with 95 % interval over clips. {look(choices.lowest(judged.table)).label} is "
    f"lowest on average. {about}.",
    "Curves of efficiency over alpha-bar, one a codebook.",
)

# %% [markdown]
# An excerpt has N = {glue:text}`excerpt_values` latent values, so {glue:text}`excerpt_entries`
# shifts with signs stand beside {glue:text}`theory_entries` independent entries. Averaged over
# levels and clips: masked shifts {glue:text}`real_shift`,
# shifts without mask {glue:text}`real_plain`,
# independent entries {glue:text}`real_paper`. That the mask helps is, by alpha-bar,
# {glue:text}`by_level`. {glue:text}`rests` Numbers of other chapters are of other clips.

# %% tags=["hide-input"]
real = choices.on_real_residuals(judged.table).reset_index(names="masked shifts less")
real["masked shifts less"] = real["masked shifts less"].map(lambda name: look(name).label)
plain_table(real.rename(columns={"first": "masked shifts", "second": "other"}))

# %% [markdown]
# ## From compression to sampling
#
# Instead of the best entry, one can be drawn from a softmax of the scores; its temperature is in
# standard deviations of a random entry's score. At $0$ it is compression, here of
# {glue:text}`soft_rate`; at $\infty$ it is plain sampling. {glue:text}`sampled`

# %% tags=["hide-input", "hide-output"]
soft = summary[summary["stage"].str.startswith("temperature")]
soft = soft[soft["metric"].isin(["mel_error", "latent_correlation", "choice_cosine"])]
results.tabulate(soft, rows="stage", digits=3)

# %% [markdown]
# ## Fitted atoms at equal rate
#
# k-means atoms fit real residuals, and are no normal noise. At {glue:text}`equal_rate`, what do
# they give, and what does the denoiser get to see?
# Normal noise has unit spread, no excess kurtosis and
# no correlation between neighbours.

# %% tags=["hide-input", "hide-output"]
equal = summary[summary["stage"] == "equal rate"]
if len(equal):
    named = equal.assign(method=equal["method"].map(lambda name: look(name).label))
    shown = results.tabulate(named, digits=3)
else:
    shown = pd.DataFrame({"k-means": ["nothing is fitted for this checkpoint"]})
shown

# %% tags=["hide-input", "remove-output"]
names = {"ddcm-kmeans": "kmeans", "ddcm": "shift"}
measured = equal.pivot(index="method", columns="metric", values="mean")
measured = measured.reindex(list(names), columns=["mel_error", "noise_neighbours_in_time"])
measured, missing = measured.rename(names), pd.Series("not measured", list(names.values()))
for key, metric in (("error", "mel_error"), ("time", "noise_neighbours_in_time")):
    if len(equal):
        glue_table(measured[metric], f"{key}_{{}}", ".3f")
    else:
        glue_table(missing, f"{key}_{{}}")

# %% [markdown]
# The mel error is {glue:text}`error_kmeans` with k-means atoms and {glue:text}`error_shift` with
# shifts, in nat. Neighbouring frames of the chosen noise correlate at {glue:text}`time_kmeans` and
# {glue:text}`time_shift`. A denoiser is trained on white noise, whose neighbours do not correlate;
# we think that it takes part of smooth noise for sound. The fitted codebook must also be stored
# with the decoder.
#
# ## Quantised latents
#
# A vector quantiser replaces each place's vector of channels by the nearest of its centres (hard),
# or by an average of all, weighted by a softmax of the squared distances (soft). No diffusion
# takes place. Soft weights are no indices: they have no finite rate, and show what averaging does;
# the number is the softmax's temperature, in squared latent units. The latent error is the squared
# one, as a share of the latents' variance. {glue:text}`quantised`

# %% tags=["hide-input", "hide-output"]
quantised = summary[summary["method"].isin(["vq", "vae"])].assign(
    stage=lambda t: t["stage"].replace("", "not quantised")
)
results.tabulate(quantised, rows="stage", digits=3)

# %% [markdown]
# ## Cost
#
# Milliseconds of one core for one step's choice and for making its noise again, and memory over
# plain sampling, for latents of {glue:text}`cost_seconds`, the length that AudioLDM2 is trained on.

# %% tags=["hide-input", "remove-output"]
cost = tables.read_cost(evidence_dir)
chosen = cost["choose, processor"]
glue_value("choose_shift", chosen["cyclic, 65,536 atoms, 16 bits"], ".1f", "ms")
glue_value("choose_chunks", chosen["independent in chunks, K=1024"], ".0f", "ms")
glue_value("cost_seconds", tables.VALUES / 128 / 25, ".2f", "s")
paper = cost.loc["the paper's way, K=1024 resident"]
glue_value("choose_paper", paper["choose, processor"], ".1f", "ms")
glue_value("paper_draw", paper["draw, processor"], ".0f", "ms")
glue_value("paper_memory", paper["memory over plain"], ".0f", "MB")
glue_value("shift_memory", cost["memory over plain"]["cyclic, 200 steps"], ".0f", "MB")

# %% tags=["hide-input", "hide-output"]
units = cost.columns.str.replace("processor", "ms").str.replace("plain", "plain, MB")
shown = cost.set_axis(units, axis="columns").rename_axis(index=None, columns=None)
names = {"the paper's way, K=1024 resident": "independent in memory, K=1024"}
shown = shown.rename(names).rename(lambda name: name.replace("Turbo-style", "thresholding"))
plain_table(shown.reset_index(names="way of choosing"), 2)

# %% tags=["hide-input", "hide-output"]
shares = tables.read_shares(evidence_dir)
glue_table(shares.set_index("what")["value"].set_axis(["mini", "published"][: len(shares)]),
           "share_{}", ".2f", "%")  # fmt: skip
plain_table(shares.rename(columns={"value": "% of one network call"}), 2)

# %% [markdown]
# Shifts need {glue:text}`shift_memory` whatever the number of steps. A choice among them takes
# {glue:text}`share_mini` of one call of `mini`'s network and {glue:text}`share_published` of one of
# the published size, on the same core and for the same length. «VAE against diffusion» times calls
# by the clock and for shorter latents, so its seconds are others.
#
# ## With an exact denoiser
#
# For white normal latents the best denoiser is known, so whole reverse processes can be held
# against the rate-distortion bound, with no weights at all. {glue:text}`placed` In the table, the
# spread is the correlation's standard deviation over draws, and *stop* the alpha-bar at which the
# placed steps end.

# %% tags=["hide-input", "hide-output"]
oracle = tables.read_oracle(evidence_dir)
glue_value("placed", tables.placed(oracle))
plain_table(oracle)

# %% [markdown]
# Real latents differ from white ones; «DDCM as a codec» tunes the placement for them.
#
# ## Limits
#
# Efficiency counts direction, not sound: a bit that points towards the residual helps the mel
# where the decoder is sensitive to it, and elsewhere less. Larger independent codebooks were
# not measured. k-means was fitted on a few blocks and stays the same at every step; a larger or
# a step-wise codebook might do better, and costs more to store.
#
# ## Next
#
# `audioldm-utils fit --checkpoint C --audio DIR` fits the k-means atoms and the quantisers for
# another checkpoint, and stores them beside it under its fingerprint.
# `benchmarks/codebook_efficiency.py` and `benchmarks/codebook_speed.py` make the tables above.
