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
# DDCM says that its choices of noise carry a clip {cite:p}`ohayon2025ddcm`. A model that makes
# plausible sound could fool us: all rain sounds alike, and all spectra fall towards high
# frequencies, so that any output correlates with any input to some degree.
#
# **The question:** does the output follow *its own* input, more than anything that lacks just
# that? **What would change our mind:** another clip of the same class, random choices, another
# prompt or a foreign checkpoint's codes giving as much; or a control that should fail passing.

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips: any format, rate and length
checkpoint: str = "mini"  # `mini`, a checkpoint folder, or a hub id
out_dir: str = "build/results/07_correlation_verification"  # where tables and audio are written
evidence_dir: str = "book/evidence"  # committed tables that findings rest on
seed: int = 0  # of codebooks, starting noise, random choices and the wrong network
synthesis: str = "auto"  # of the mel: auto, vocoder, griffin-lim or inverse
limit: int = 0  # use only so many clips; 0 for all
new_clips: int = 3  # clips that are measured where the evidence holds none of them; 0 for all
seconds: float = 2.56  # of a clip's beginning that is coded
steps: int = 14  # network calls of a run, at most
rates: list[float] = [0.2, 1.0]  # kbit/s, header included
guidance: float = 3.5  # classifier-free, of the other prompt
perturbation: float = 0.1  # noise on each weight tensor of the wrong network, re its spread

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np

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
from audioldm_utils.results import summaries as results
from audioldm_utils.studies.run import measure
from audioldm_utils.studies.verification import (
    ALPHA,
    EFFECT,
    JUDGED,
    by_call,
    comparisons,
    control,
    matrix,
    name_of,
    rates_of,
    verdict,
)

# %% tags=["hide-input"]
style()
# papermill's -p hands lists over as text.
(rates,) = as_lists(rates)
clips = usable_clips(audio_dir, limit)

# %% [markdown]
# ## Method
#
# For a representation $u$ of the input and $v$ of the output, with $b$ a bin (a latent channel
# at one frequency, a mel band, an octave band) and $t$ time,
#
# $$r = \frac{\langle u - \bar u,\, v - \bar v\rangle}{\lVert u - \bar u\rVert\,
#   \lVert v - \bar v\rVert}, \qquad
#   \tilde r = r(u_{b,t} - \bar u_b,\; v_{b,t} - \bar v_b).$$
#
# $r$ takes one mean from everything; $\tilde r$ takes from each bin its own mean over time, so
# that a spectrum which sounds share no longer counts. Only $\tilde r$ can say that the
# output follows the input *in time*.
#
# Each null shares all with the matched run but one thing:
#
# - **random indices**: same codebooks, same start, same rate, and choices by chance;
# - **another clip's codes**: the output of each other clip, held against this input;
# - **another clip of the class**: the same within a class;
# - **another prompt**: the clip's own codes, decoded under the prompt of another class with
#   guidance {glue:text}`guidance`. This is the gentlest null: the codes are still the clip's;
# - **wrong checkpoint's codes**: codes that another network chose, decoded by the right one. The
#   other network is this one with normal noise of {glue:text}`perturbation` of each weight
#   tensor's spread, as if it had been trained otherwise. The file format refuses such codes.
#
# A difference is tested over clips by permutation: matched and null are exchanged within each
# clip, and for other clips all inputs are dealt out again. P-values are corrected together over
# rates, representations and nulls {cite:p}`holm1979`. The effect size is the mean difference
# over its spread over clips. Asked for are $p <$ {glue:text}`alpha` and an effect of at least
# {glue:text}`effect`, in latents and log-mel with the bin means removed.

# %% tags=["show-input", "remove-output"]
coded = {"seconds": seconds, "steps": steps, "rates": rates}
nulls = {"guidance": guidance, "perturbation": perturbation}
grid = {"seed": seed, "synthesis": synthesis, **coded, **nulls}
place = {"out_dir": out_dir, "evidence_dir": evidence_dir}
# Some clips of the evidence are measured again; of a reader's own, as many as `new_clips` says.
judged = measure("07_correlation", clips, checkpoint, grid, **place, recheck=2, new_clips=new_clips)
about = f"n = {judged.n}; {judged.source}; checkpoint {checkpoint}; seed {seed}"
glue_value("n", judged.n, "d")
glue_value("rests", judged.rests)
glue_value("seconds", seconds, ".2f", "s")
glue_value("steps", steps, "d")
glue_value("guidance", guidance, ".1f")
glue_value("perturbation", perturbation, ".0%")
glue_value("alpha", ALPHA, "g")
glue_value("effect", EFFECT, "g")

# %% [markdown]
# Measured on the first {glue:text}`seconds` of each clip, with at most {glue:text}`steps` network
# calls a run and no prompt. {glue:text}`rests`
#
# ## Listen
#
# A clip, its own codes decoded, and the same decoder with random indices.

# %% tags=["hide-input"]
networks = Networks(load(checkpoint), synthesis=synthesis)
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
    chance = codec.generate("", len(wave) / 16000, Settings(kbps=None, steps=steps), seed=seed)
    takes.append(Take("ddcm-random", codec.decode(chance.data).samples, 16000))
    rows.append(Row(clip.name, takes, clip.caption or ""))
players(rows, Path(out_dir) / "listening", f"Own codes and chance; checkpoint {checkpoint}.")

# %% [markdown]
# ## Every representation, with and without the bin means
#
# The lowest rate. Rows are representations; «VAE + vocoder» is the ceiling, since the codec
# codes what the VAE encodes.

# %% tags=["hide-input", "remove-output"]
tests = comparisons(judged.table)
controls = control(judged.table)
tests.to_csv(Path(out_dir) / "tests.csv", index=False)
controls.to_csv(Path(out_dir) / "controls.csv", index=False)
stages_of = rates_of(judged.table)
lowest, top = stages_of[0], stages_of[-1]
plain = judged.table[judged.table["band"] == ""]
plain = plain[plain["metric"].str.contains("_correlation") & plain["stage"].isin(["", lowest])]
summary = results.summarise(plain, by=("metric", "method"))
summary["metric"] = [name_of(metric) for metric in summary["metric"]]
value = summary.set_index(["metric", "method"])["mean"]
centred = value.index.get_level_values("metric").str.endswith(", means removed")
glue_table(value[~centred], "{}_{}", ".2f")
removed = value[centred].rename(lambda name: name.removesuffix(", means removed"))
glue_table(removed, "{}_centred_{}", ".2f")

# %% tags=["hide-input"]
axes = points_with_intervals(
    summary, "correlation with the input", category="metric", series="method", reference=0.0
)
figure_caption(
    axes.figure,
    "fig-representations",
    f"Correlation of outputs with their inputs at {lowest}, mean with 95 % interval. Random "
    f"indices stand far from zero until each bin's mean is removed. {about}.",
    "Rows of points for each representation: own codes to the right, below the VAE's ceiling; "
    "random indices far to the right of zero, but near zero where means are removed.",
)

# %% [markdown]
# Without the means removed, random indices reach {glue:text}`latent_ddcm-random` in latents and
# {glue:text}`log-mel_ddcm-random` in log-mel: that much is what all sounds have in common. With
# them removed it is {glue:text}`latent_centred_ddcm-random` and
# {glue:text}`log-mel_centred_ddcm-random`, while the clip's own codes give
# {glue:text}`latent_centred_ddcm` and {glue:text}`log-mel_centred_ddcm`; the VAE alone, without
# any rate, gives {glue:text}`log-mel_centred_vae` in log-mel.
#
# **The waveform shows nothing.** The vocoder sees magnitudes only and makes up the phase. Even
# the VAE's ceiling is {glue:text}`waveform_vae` there, so the {glue:text}`waveform_ddcm` of the
# codec says nothing for or against it. The envelope of octave bands has no phase and can be
# used; it is coarser than the log-mel and adds little to it.
#
# ## Against every null
#
# Matched minus null, the means over time removed, for every rate.

# %% tags=["hide-input", "remove-output"]
claim = tests[tests["representation"].isin(JUDGED)].copy()
claim["representation"] = [name_of(metric).split(",")[0] for metric in claim["representation"]]
short = claim[["rate", "null", "representation", "matched", "null_mean", "difference"]]
short = short.assign(p=claim["p_corrected"], effect=claim["d_z"], n=claim["n"])
claim["null"] = claim["null"] + ", " + claim["rate"]
weakest = claim.sort_values("d_z").iloc[0]
glue_value("weakest", weakest["null"])
glue_value("weakest_in", weakest["representation"])
glue_value("weakest_effect", weakest["d_z"], ".2f")
glue_value("largest_p", claim["p_corrected"].max(), ".2g")
glue_value("tests", len(tests), "d")
glue_value("passed", int(claim["follows"].sum()), "d")
glue_value("asked", len(claim), "d")
glue_value("verdict", verdict(tests))

# %% tags=["hide-input"]
axes = points_with_intervals(
    claim,
    "matched minus null, correlation with means removed (more is better)",
    category="null",
    series="representation",
    reference=0.0,
    values=("difference", "low", "high"),
)
figure_caption(
    axes.figure,
    "fig-nulls",
    f"How far the clip's own codes lie above each null, mean over clips with 95 % interval; the "
    f"smallest effect size is {weakest['d_z']:.2f}, against {weakest['null']}. {about}.",
    "Points with intervals to the right of a dashed line at zero; another prompt lies closest.",
)

# %% [markdown]
# The clip's own codes are **{glue:text}`verdict`**: {glue:text}`passed` of {glue:text}`asked`
# comparisons meet what was asked. The largest of their p-values, corrected over
# {glue:text}`tests` tests, is {glue:text}`largest_p`; the smallest effect size is
# {glue:text}`weakest_effect` ({glue:text}`weakest`, {glue:text}`weakest_in`). Each row below is
# one comparison.

# %% tags=["hide-input"]
plain_table(short)

# %% [markdown]
# ## The controls that must fail
#
# If the test were too kind, it would also find that random indices follow the inputs. Here every
# output of random indices is paired with every input, as the matched ones are above.

# %% tags=["hide-input", "remove-output"]
glue_value("control_p", controls["p"].min(), ".2g")
glue_value("control_effect", controls["d_z"].abs().max(), ".2f")
quiet = not controls["follows"].any() and bool((controls["p_corrected"] >= ALPHA).all())
outcome = "inside its null, as it must" if quiet else "outside its null"
glue_value("control", outcome if len(controls) else "not tested, since that takes two clips")
low = judged.table[judged.table["stage"] == lowest]
pairs = matrix(low, "ddcm", lowest, "log_mel_correlation_centred")
# Clips of one class side by side, so that what a class has in common shows beside the diagonal.
pairs.index.name = pairs.columns.name = None

# %% tags=["hide-input"]
shown = controls[
    ["rate", "null", "representation", "matched", "null_mean", "p", "p_corrected"]
].copy()
shown["representation"] = [name_of(metric).split(",")[0] for metric in shown["representation"]]
plain_table(shown.assign(effect=controls["d_z"], n=controls["n"]))

# %% [markdown]
# The control is {glue:text}`control`: its smallest p-value, before correction, is
# {glue:text}`control_p` and its largest effect size {glue:text}`control_effect`. Simulated
# experiments with known answers test the procedure itself: among the project's tests is its rate
# of false alarms and its power.

# %% tags=["hide-input"]
axes = heatmap(
    pairs,
    "correlation, means removed",
    "input",
    "output of the codes of",
    difference=True,
    digits=2,
)
figure_caption(
    axes.figure,
    "fig-pairs",
    f"Log-mel of every output against every input at {lowest}: the diagonal is matched. {about}.",
    "A square of coloured cells with a dark diagonal; others are dark where two sounds rise and "
    "fall alike.",
)

# %% [markdown]
# Off the diagonal cells are dark where sounds rise and fall alike, as plucked strings do. It is
# such pairs that the null of another clip counts.
#
# ## How the correlation grows
#
# After each network call the denoiser believes in some clean latents. How well do they correlate
# with the input's, and what does each choice add?

# %% tags=["hide-input", "remove-output"]
growth = by_call(judged.table, top, "denoised_correlation")
steps_of = growth[growth["method"] == "ddcm"].sort_values("call")
glue_value("top_rate", top)
reached = steps_of["mean"].iloc[[0, len(steps_of) // 2, -1]]
glue_table(reached.set_axis(["first", "middle", "last"]), "{}_call", ".2f")
choices = by_call(judged.table, lowest, "choice_cosine")
mean_cosine = choices.groupby("method")["mean"].mean()
glue_value("cosine", mean_cosine["ddcm"], ".3f")
glue_value("cosine_theory", mean_cosine["theory"], ".3f")
last_bound = growth[growth["method"] == "bound"].sort_values("call")["mean"].iloc[-1]
glue_value("bound", last_bound, ".2f")

# %% tags=["hide-input"]
axes = curves(growth, "call", "network call", "correlation of denoised latents with the input's")
figure_caption(
    axes.figure,
    "fig-growth",
    f"Correlation of the denoised latents after each call at {top}, beside random indices and "
    f"the bound for white latents at the bits spent so far. {about}.",
    "A rising curve of the own codes above a slowly rising bound; random indices stay level.",
)

# %% tags=["hide-input"]
axes = curves(choices, "call", "network call", "cosine of chosen noise and residual")
figure_caption(
    axes.figure,
    "fig-gain",
    f"What each choice gains at {lowest}: cosine of the chosen noise with the residual, beside "
    f"the theoretical mean for independent atoms. {about}.",
    "Measured cosines scatter about the theoretical line.",
)

# %% [markdown]
# At {glue:text}`top_rate` the denoised latents start at {glue:text}`first_call`, since the
# denoiser knows what sounds have in common, and reach {glue:text}`middle_call` half way and
# {glue:text}`last_call` at the end. An ideal code of as many bits for *white* latents would reach
# {glue:text}`bound`: the rest is what the denoiser knows. One choice gains a cosine of
# {glue:text}`cosine` at the lowest rate; the theory for independent atoms says
# {glue:text}`cosine_theory`.
#
# ## Limits
#
# Correlation is blind to gain, and with its mean removed to a bin's level: a coloured copy would
# pass. A steady sound has hardly any change over time, so that for it little is left to follow.
# The wrong checkpoint is made by noise and not by another training run. None of this says how an
# output sounds.
#
# ## Next
#
# What the outputs sound like and at which rate is the codec chapter's matter; the tests are
# among the downloads of the execution page.
