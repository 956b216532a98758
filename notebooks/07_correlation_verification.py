# ---
# jupyter:
#   audioldm_utils:
#     tiny:
#       rates:
#       - 2.0
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
# # Does the output really follow the input?
#
# :::{admonition} The answer
# :class: tip
# **Does DDCM's output follow its input more than comparisons do: some without the input, some with
# its codes under another prompt, and noises with its levels?** {glue:text}`answer`
#
# At every rate, a clip's own codes give more than
#
# - random indices: **{glue:text}`claim_1`**;
# - the codes of other clips, of any class and of the same class: **{glue:text}`claim_2`**;
# - the same codes under another prompt, without and with guidance: **{glue:text}`claim_3`**;
# - noise of the clip's loudness: **{glue:text}`claim_4`**;
# - noise of the clip's levels in seven bands: **{glue:text}`claim_5`**;
# - once the loudness of each frame is taken away, random indices and other clips:
#   **{glue:text}`claim_6`**; the two noises: **{glue:text}`claim_8`**.
#
# The controls, which must fail, do fail: **{glue:text}`claim_7`**. Codes that a network with noise
# of {glue:text}`perturbation` on its weights chose for the same clip, decoded by the unchanged
# network, reach {glue:text}`robust`.
#
# **What to do:** {glue:text}`advice`
# :::
#
# DDCM says that its choices of noise carry a clip {cite:p}`ohayon2025ddcm`. A generative model
# makes plausible sound without any input, and that could fool us. Spectra of most sounds fall
# towards high frequencies, so any output correlates with any input to some degree.
#
# **What would change our mind:** each line above turned round. If random indices, other clips,
# another prompt or noise gave as much, the codes would not carry the clip.

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips: any format, rate and length
checkpoint: str = "mini"  # `mini`, a checkpoint folder, or a hub id
device: str = "cpu"  # where the networks run: cpu, cuda or mps
out_dir: str = "build/results/07_correlation_verification"  # where tables and audio are written
evidence_dir: str = "book/evidence"  # committed tables that findings rest on
seed: int = 0  # of codebooks, starting noise, random indices and the perturbed network
synthesis: str = "auto"  # of the mel: auto, vocoder, griffin-lim or inverse
limit: int = 0  # use only so many clips; 0 for all
new_clips: int = 3  # clips that are measured where the evidence holds none of them; 0 for all
seconds: float = 2.56  # of a clip's beginning that is coded
steps: int = 14  # network calls of a run, at most
rates: list[float] = [0.2, 1.0]  # kbit/s, header included
guidance: float = 3.5  # classifier-free, of the other prompt where it is guided
perturbation: float = 0.1  # of the perturbed network: noise on each weight tensor over its spread

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np
from IPython.display import display

from audioldm_utils.audio.clips import load_clip, to_model_rate
from audioldm_utils.audio.survey import usable_clips
from audioldm_utils.book.listening import Row, Take, players
from audioldm_utils.book.plotting import (
    curves,
    figure_caption,
    glue_table,
    glue_value,
    heatmap,
    plain_table,
    points_with_intervals,
    style,
)
from audioldm_utils.bounds import as_lists
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.model.checkpoint import load

# %% tags=["hide-input"]
from audioldm_utils.model.networks import Networks
from audioldm_utils.results.summaries import interval_text
from audioldm_utils.studies import verification_tables as verification
from audioldm_utils.studies.baselines import NOISES, envelope_noise
from audioldm_utils.studies.correlation_tests import ALPHA, EFFECT
from audioldm_utils.studies.run import measure
from audioldm_utils.studies.verification import DRAWS as NOISE_DRAWS
from audioldm_utils.studies.verification_tables import ALOUD, DRAWS, IN_TIME, name_of

# %% tags=["hide-input"]
style()
# papermill's -p hands lists over as text.
(rates,) = as_lists(rates)
clips = usable_clips(audio_dir, limit)

# %% [markdown]
# ## Method
#
# Let $u$ be a representation of the input and $v$ that of the output. A bin $b$ is a latent
# channel at one frequency, a mel band or an octave band, and $t$ is time. Pearson's correlation
# $r$ subtracts one mean from everything. Stricter ones subtract more:
#
# $$r = \frac{\langle u - \bar u,\, v - \bar v\rangle}{\lVert u - \bar u\rVert\,
#   \lVert v - \bar v\rVert}, \qquad
#   \tilde r = r(u_{b,t} - \bar u_b,\; v_{b,t} - \bar v_b), \qquad
#   \hat r = r(u_{b,t} - \bar u_b - \bar u_t,\; v_{b,t} - \bar v_b - \bar v_t).$$
#
# $\tilde r$ takes each bin's mean over time away. A spectrum that sounds share no longer counts,
# and only an output that follows the input *in time* has a $\tilde r$ above what chance gives.
# $\hat r$ takes each frame's mean over frequency away too. What is left of a log-mel holds no
# loudness of a frame, so $\hat r$ shows whether the *shape* of the spectrum follows.
#
# Most {term}`nulls <null>` differ from the matched run in one thing:
#
# - **random indices**: the same codebooks, start and rate, and indices by chance;
# - **another clip**: the output of each other clip, held against this input;
# - **another clip of the class**: the same within a class;
# - **another prompt**: the clip's own codes, decoded under a prompt of another class. The codes
#   were chosen without a prompt and without guidance. They are still the clip's, so this asks
#   whether the decoder heeds a prompt beside them;
# - **another prompt, guided**: the same with guidance {glue:text}`guidance`. Two things differ.
#
# The **perturbed network's codes** are no null: that network, which is this one with normal noise
# of {glue:text}`perturbation` of each weight tensor's spread, chose them for the same clip.
#
# Other nulls are no runs of the model. White noise gets the clip's own levels: its **loudness**
# (one band, {glue:text}`noise_rate_broadband`), or its levels in **octave bands**
# ({glue:text}`noise_rate_seven`). Both are favoured: their rates leave a file's header out, which
# DDCM's include; their log-mel is the mean of {glue:text}`noise_draws` draws, and no VAE or
# synthesis touches it. For latents that mel goes through the VAE's encoder.
#
# A difference is tested over recordings by {term}`permutation <permutation test>`, one-sided.
# Matched and null are exchanged within each recording, for all its clips together; for other clips,
# the inputs are permuted over all outputs. P-values are corrected together over rates,
# representations and nulls {cite:p}`holm1979`. The effect size is the mean difference over its
# standard deviation. A claim asks for $p <$ {glue:text}`alpha` and an effect of at least
# {glue:text}`effect` in every comparison that belongs to it; both limits were set before the
# measurement. It is refuted where the interval of a difference lies below zero, and undecided
# otherwise.

# %% tags=["show-input", "remove-output"]
coded = {"seconds": seconds, "steps": steps, "rates": rates}
nulls = {"guidance": guidance, "perturbation": perturbation}
grid = {"seed": seed, "synthesis": synthesis, **coded, **nulls}
place = {"out_dir": out_dir, "evidence_dir": evidence_dir, "device": device}
# Some clips of the evidence are measured again; of a reader's own, as many as `new_clips` says.
judged = measure("07_correlation", clips, checkpoint, grid, **place, recheck=2, new_clips=new_clips)
tests = verification.comparisons(judged.table)
controls = verification.control(judged.table)
words = verification.claims(tests, controls)
tests.to_csv(Path(out_dir) / "tests.csv", index=False)
controls.to_csv(Path(out_dir) / "controls.csv", index=False)

# %% tags=["hide-input", "remove-output"]
about = f"n = {judged.source}; checkpoint {checkpoint}; seed {seed}"
stages_of = verification.rates_of(judged.table)
lowest, top = stages_of[0], stages_of[-1]
glue_value("n", judged.n, "d")
glue_value("rests", judged.rests)
glue_value("seconds", seconds, ".2f", "s")
glue_value("steps", steps, "d")
glue_value("guidance", guidance, ".1f")
glue_value("perturbation", perturbation, ".0%")
glue_value("alpha", ALPHA, "g")
glue_value("effect", EFFECT, "g")
glue_value("lowest", lowest)
for key, word in words.items():
    glue_value(key, word)
sent = judged.table[judged.table["metric"] == "rate"].groupby(["method", "stage"])["value"].mean()
noise_rates = [
    glue_value("noise_rate_broadband", sent["envelope-noise", "broadband"], ".2f", "kbit/s"),
    glue_value("noise_rate_seven", sent["envelope-noise", "seven bands"], ".2f", "kbit/s"),
]
by_rate = verification.answer(tests, words)
glue_value("by_rate", by_rate)

# %% tags=["hide-input", "remove-output"]
hits = {stage: verification.nearest(judged.table, stage) for stage in stages_of[::-1]}
own = ", ".join(f"{found[0]} of {len(found[1])} at {stage}" for stage, found in hits.items())
glue_value("nearest", own)
glue_value(
    "answer",
    f"{by_rate}. The noises have {' and '.join(noise_rates)} at every rate; noise of {top} was not "
    f"made. Nearest to their own input are {own} (by chance 1; log-mel). Measure: correlation of "
    "latents and of log-mel, each bin's mean over time removed. Compared are random indices, other "
    "clips, other clips of the class, the codes under another prompt without and with guidance, "
    f"and noise of the clip's loudness and of its seven bands; n = {judged.source}.",
)
faint = hits[lowest][1].head(5)
glue_value("faint", ", ".join(f"{name} ({value:.2f})" for name, value in faint.items()))
glue_value("robust", verification.robustness(tests, lowest))
glue_value("noise_draws", NOISE_DRAWS, "d")
glue_value(
    "advice",
    "When you quote a correlation, remove each bin's mean over time and give two nulls beside it: "
    "random indices, and noise of the clip's own levels.",
)

# %% [markdown]
# Measured on the first {glue:text}`seconds` of each clip, with at most {glue:text}`steps` network
# calls a run and no prompt. {glue:text}`rests`
#
# ## Listen
#
# A clip, its own codes decoded, the same decoder with random indices at {glue:text}`lowest`, and
# noise of the clip's levels. Listen for what the noise keeps: it is how much a listener would grant
# to the clip's levels alone.

# %% tags=["hide-input"]
networks = Networks(load(checkpoint, device=device), synthesis=synthesis)
codec, rows = Codec(networks), []
measured = set(judged.run["clip"])
for info in [info for info in clips if info.name in measured][:1]:
    clip = load_clip(info, max_seconds=seconds)
    wave = to_model_rate(clip)
    wave = np.pad(wave, (0, max(0, round(seconds * 16000) - len(wave))))
    takes = [Take("original", wave, 16000)]
    for rate in sorted(rates, reverse=True):
        found = codec.encode(wave, Settings(kbps=rate, steps=steps, seed=seed))
        takes.append(
            Take("ddcm", codec.decode(found.data).samples, 16000, f"DDCM, {rate:g} kbit/s")
        )
    chance = codec.generate(
        "", len(wave) / 16000, Settings(kbps=min(rates), steps=steps), seed=seed
    )
    takes.append(Take("ddcm-random", codec.decode(chance.data).samples, 16000))
    for kind in NOISES:
        noise = envelope_noise(wave, 16000, kind, seed).samples
        takes.append(Take("envelope-noise", noise, 16000, f"noise, {kind}"))
    rows.append(Row(clip.name, takes, clip.caption or ""))
players(rows, Path(out_dir) / "listening", f"Own codes, chance and noise; checkpoint {checkpoint}.")

# %% [markdown]
# ## Every representation, with and without the means
#
# All at {glue:text}`lowest`. «VAE» is the VAE and the synthesis of this run. It is the ceiling,
# since the codec codes what the VAE encodes.

# %% tags=["hide-input", "remove-output"]
summary = verification.representations(judged.table)
shown = ["vae", "ddcm", "ddcm-random", "noise of its loudness", "noise of its seven bands"]
summary = summary[summary["method"].isin(shown)]
value = summary.set_index(["metric", "method"])["mean"]
means = {", bin means removed": "centred_", ", bin and frame means removed": "shape_", "": ""}
for ending, key in means.items():
    of = value.index.get_level_values("metric").str
    chosen = value[of.endswith(ending) if ending else ~of.contains(",")]
    chosen = chosen.rename(lambda name, end=ending: name.removesuffix(end).replace(" ", "-"))
    glue_table(chosen, f"{{}}_{key}{{}}", ".2f")

# %% tags=["hide-input"]
axes = points_with_intervals(
    summary.sort_values("method", key=lambda names: names.map(shown.index), kind="stable"),
    "correlation with the input",
    category="metric",
    series="method",
    order=sorted(set(summary["metric"]), key=lambda name: (name.split(",")[0], len(name))),
    reference=0.0,
)
figure_caption(
    axes.figure,
    "fig-representations",
    f"Correlation of outputs with their inputs at {lowest}, mean with 95 % interval over "
    f"recordings. Rows that end in «removed» have the means named there taken away. {about}.",
    "Rows of points, one for each representation and way of taking means away; five colours for "
    "the VAE, own codes, random indices and the two noises, with a dashed line at zero.",
)

# %% [markdown]
# Without the means removed, random indices reach {glue:text}`latent_ddcm-random` in latents and
# {glue:text}`log-mel_ddcm-random` in log-mel. Sounds have that much in common. With the means of
# bins removed they reach {glue:text}`latent_centred_ddcm-random` and
# {glue:text}`log-mel_centred_ddcm-random`, and the clip's own codes
# {glue:text}`latent_centred_ddcm` and {glue:text}`log-mel_centred_ddcm`. The VAE alone, at no
# limit of rate, reaches {glue:text}`log-mel_centred_vae` in log-mel.
#
# **Loudness is a strong rival.** Noise of the clip's loudness reaches
# {glue:text}`log-mel_centred_noise-of-its-loudness` in log-mel, and noise of its octave bands
# {glue:text}`log-mel_centred_noise-of-its-seven-bands`. Once each frame's mean is removed too,
# they keep {glue:text}`log-mel_shape_noise-of-its-loudness` and
# {glue:text}`log-mel_shape_noise-of-its-seven-bands`, and own codes keep
# {glue:text}`log-mel_shape_ddcm`.
#
# **The waveform shows nothing.** The synthesis makes up the phase. Even the VAE's ceiling is
# {glue:text}`waveform_vae` there, so the {glue:text}`waveform_ddcm` of the codec says nothing for
# or against it. The envelope of octave bands favours the noise that is made of it
# ({glue:text}`envelope_centred_noise-of-its-seven-bands`; own codes
# {glue:text}`envelope_centred_ddcm`), so it is shown and not judged by.
#
# ## Against every null

# %% tags=["hide-input", "remove-output"]
claim = tests[tests["representation"].isin(IN_TIME) & tests["null"].isin(ALOUD)].copy()
asked = tests.copy()
asked["representation"] = [name_of(metric) for metric in asked["representation"]]
claim["representation"] = [name_of(metric).split(",")[0] for metric in claim["representation"]]
names = {"null_mean": "null's mean", "p_corrected": "p, Holm", "d_z": "effect",
         "follows": "as asked"}  # fmt: skip
columns = ["rate", "null", "representation", "matched", "null_mean", "difference", "low", "high"]
asked["difference"] = [interval_text(row.difference, row.low, row.high, ".3f")
                       for row in asked.itertuples()]  # fmt: skip
short = asked[[*columns[:6], "p_corrected", "d_z", "follows", "n"]].rename(columns=names)
glue_value("failing", verification.failing(tests))
glue_value("tests", len(tests), "d")
glue_value("passed", int(claim["follows"].sum()), "d")
glue_value("asked", len(claim), "d")
glue_value("at_floor", int(tests["at_floor"].sum()), "d")
floor = tests["floor"].min()
within = tests.loc[tests["null"].str.endswith("class"), "floor"].min()
more = f" ({within:.2g} where clips of a class are permuted)" if within > floor else ""
glue_value("floor", f"{floor:.2g}{more}")
glue_value("draws", DRAWS, ",d")

# %% tags=["hide-input"]
drawn = claim[claim["representation"] == "log-mel"]
axes = points_with_intervals(
    drawn,
    "matched minus null, log-mel correlation, bin means removed (more is better)",
    category="null",
    series="rate",
    reference=0.0,
    values=("difference", "low", "high"),
)
figure_caption(
    axes.figure,
    "fig-nulls",
    "How far the log-mel correlation of a clip's own codes lies above that of each null, mean "
    f"over recordings with 95 % interval, by rate. {about}.",
    "Two points with intervals a null, one for each rate, beside a dashed line at zero.",
)

# %% [markdown]
# In latents and in log-mel, bin means removed, {glue:text}`passed` of {glue:text}`asked`
# comparisons with nulls meet what was asked. Those that do not, with their effects:
# {glue:text}`failing`. The tables below have all {glue:text}`tests`: «matched» is the correlation
# of own codes, «effect» the effect size, «as asked» whether $p$ and effect meet the limits.
#
# **P-values have a floor.** With {glue:text}`draws` permutations no p-value can be below
# {glue:text}`floor`. {glue:text}`at_floor` of the {glue:text}`tests` p-values stand at their floor:
# no permutation came near what was measured, and how far below the floor they would lie is not
# known. Effects tell nulls apart; these p-values do not.
#
# **Robustness.** The perturbed network's codes reach {glue:text}`robust`.

# %% tags=["hide-input", "hide-output"]
for (rate, representation), part in short.groupby(["rate", "representation"], sort=False):
    part = part.drop(columns=["rate", "representation"])
    display(plain_table(part, caption=f"Every comparison at {rate}: {representation}"))

# %% [markdown]
# ## The controls that must fail
#
# A test that is too lenient would report an effect here, where there is none. Each kind of null
# has a control:
#
# - **a stranger's input**: the clip's own codes, and each null's output beside them, are held
#   against the input of a clip of another class. The codes know nothing of it;
# - **random indices**: they take the place of own codes, and inputs are permuted over all outputs.

# %% tags=["hide-input", "remove-output"]
glue_value("control_n", len(controls), "d")
glue_value("control_p", controls["p"].min(), ".2g")
glue_value("control_corrected", controls["p_corrected"].min(), ".2g")
glue_value("control_effect", controls["d_z"].max(), ".2f")
outcome = {"upheld": "inside its null, as it must be", "refuted": "outside its null"}
outcome = outcome.get(words["claim_7"], "not clearly inside its null")
glue_value("control", outcome if len(controls) else "not tested, since that takes two clips")
low = judged.table[judged.table["stage"] == lowest]
pairs = verification.matrix(low, "ddcm", lowest, "log_mel_correlation_centred")
# Clips of one class side by side, so that what a class has in common shows beside the diagonal.
pairs.index.name = pairs.columns.name = None
shown = controls[["control", *columns[:5], "p", "p_corrected", "d_z", "n"]].copy()
shown["representation"] = [name_of(metric) for metric in shown["representation"]]

# %% tags=["hide-input", "hide-output"]
plain_table(shown.rename(columns=names), caption="Every control, all rates and nulls")

# %% [markdown]
# The control is {glue:text}`control`: of {glue:text}`control_n` comparisons the smallest p-value is
# {glue:text}`control_p` before correction and {glue:text}`control_corrected` after it, and the
# largest effect {glue:text}`control_effect`. The project's tests run the procedure on simulated
# experiments with known answers (`tests/studies/test_correlation_tests.py`).

# %% tags=["hide-input"]
axes = heatmap(
    pairs,
    "correlation, bin means removed",
    "input",
    "output of the codes of",
    difference=True,
    digits=2,
)
figure_caption(
    axes.figure,
    "fig-pairs",
    f"Log-mel of every output against every input at {lowest}: the diagonal is matched. {about}.",
    "A square of cells, red above zero and blue below, with the matched pairs on its diagonal.",
)

# %% [markdown]
# Of the outputs, {glue:text}`nearest` correlate best with their own input; by chance it would be
# one. The lowest on the diagonal are {glue:text}`faint`. A red cell off the diagonal is a pair that
# rises and falls together, a blue one a pair of which one falls while the other rises. The null of
# another clip counts such pairs.
#
# ## How the correlation grows
#
# After each network call the denoiser believes in some clean latents. This section asks how well
# they correlate with the input's (bin means removed), and what each choice adds.

# %% tags=["hide-input", "remove-output"]
growth = verification.by_call(judged.table, top, "denoised_correlation_centred")
steps_of = growth[growth["method"] == "ddcm"].sort_values("call")
glue_value("top_rate", top)
reached = steps_of["mean"].iloc[[0, len(steps_of) // 2, -1]]
glue_table(reached.set_axis(["first", "middle", "last"]), "{}_call", ".2f")
choices = verification.by_call(judged.table, lowest, "choice_cosine")
mean_cosine = choices.groupby("method")["mean"].mean()
glue_value("cosine", mean_cosine["ddcm"], ".3f")
glue_value("cosine_theory", mean_cosine["theory"], ".3f")
last_bound = growth[growth["method"] == "bound"].sort_values("call")["mean"].iloc[-1]
glue_value("bound", last_bound, ".2f")

# %% tags=["hide-input"]
axes = curves(growth, "call", "network call", "correlation, bin means removed")
figure_caption(
    axes.figure,
    "fig-growth",
    f"Correlation of the denoised latents with the input's after each call at {top}, beside "
    f"random indices and the bound for white latents at the bits spent so far. {about}.",
    "A curve for own codes, one for random indices and a slowly rising bound.",
)

# %% tags=["hide-input"]
axes = curves(choices, "call", "network call", "cosine of chosen noise and residual")
figure_caption(
    axes.figure,
    "fig-gain",
    f"What each choice gains at {lowest}: cosine of the chosen noise with the residual, beside "
    "the theoretical mean for independent atoms. The rate gives some steps more atoms than others: "
    f"those gain more. {about}.",
    "Measured cosines and the theoretical line.",
)

# %% [markdown]
# At {glue:text}`top_rate` the denoised latents correlate at {glue:text}`first_call` after the first
# call, at {glue:text}`middle_call` half way and at {glue:text}`last_call` at the end. An ideal code
# of as many bits for *white* latents would reach {glue:text}`bound`. Latents are not white: a
# linear model would gain a part of the difference too, and the codec chapter compares DDCM with
# one. At {glue:text}`lowest` a choice gains a cosine of {glue:text}`cosine`, mean over the steps,
# where the theory for independent atoms says {glue:text}`cosine_theory`.
#
# ## Limits
#
# Correlation does not see gain, nor the level of a bin whose mean is removed. A steady sound hardly
# changes over time, so little is left of it to follow. The perturbed network is made by noise and
# not by another training run. The noises have their own low rates: noise of as many bits as DDCM at
# {glue:text}`top_rate` was not made. A frame's mean in log-mel is not loudness as it is heard. None
# of this says how an output sounds. After an earlier look at envelopes of eval clips, spectral
# measures were changed at an excerpt's edges (`book/evidence/HISTORY.md`).
#
# ## Next
#
# The codec chapter tells how outputs sound at which rate, with up to as many network calls as it
# says, and so not of these very files. The tests are among the downloads of the
# execution page.
