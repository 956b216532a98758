# ---
# jupyter:
#   audioldm_utils:
#     tiny:
#       changes:
#       - 0.0
#       - 1.0
#       edit_steps: 4
#       sizes:
#       - 16
#       - 128
#       steps: 4
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
# # Text to audio with DDCM
#
# Text to audio draws fresh noise at every step. DDCM draws an index into a codebook instead, so
# that the sound is its list of indices {cite:p}`ohayon2025ddcm`. If a small codebook makes as
# good sound as free noise {cite:p}`ho2020ddpm`, then generated sound is compressed from birth.
#
# **The question:** from which codebook size on do random codes make what DDPM makes? **What would
# change our mind** that they do: scores that differ from DDPM's by more than a margin set before.

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips: any format, rate and length
checkpoint: str = "mini"  # `mini`, a checkpoint folder, or a hub id
out_dir: str = "build/results/06_text_to_audio"  # where tables and audio are written
evidence_dir: str = "book/evidence"  # committed tables that findings rest on
seed: int = 0  # of starting noise, codebooks and choices
synthesis: str = "auto"  # of the mel: auto, vocoder, griffin-lim or inverse
limit: int = 0  # use only so many clips; 0 for all
new_clips: int = 1  # clips that are edited where the evidence holds none of them; 0 for all
samples: int = 1  # of each prompt and method that are made in this run; 0 for all
seconds: float = 1.28  # of a sample, and of a clip that is edited
steps: int = 10  # network calls of a sample
guidance: float = 3.5  # classifier-free
subset: int = 64  # candidates a step of prompt-free guidance
sizes: list[int] = [2, 64, 1024, 65536]  # of codebooks
judged_size: int = 64  # codebooks from here on are judged equivalent to free noise, or not
judged_samples: int = 20  # of each prompt, by DDPM and by those codebooks
other_samples: int = 2  # of each prompt, by all other methods
margin: float = 0.1  # of equivalence, in standard deviations of DDPM's scores
edit_steps: int = 20  # network calls of an edit
edit_atoms: int = 4  # of a choice in an edit
changes: list[float] = [0.0, 0.25, 0.5, 0.75, 1.0]  # share of the steps before the prompt changes

# %% tags=["hide-input"]
from pathlib import Path

from audioldm_utils.audio.clips import load_clip
from audioldm_utils.audio.survey import usable_clips
from audioldm_utils.book.listening import Row, Take, players
from audioldm_utils.book.plotting import (
    curves,
    figure_caption,
    glue_table,
    glue_value,
    plain_table,
    points_with_intervals,
    style,
)
from audioldm_utils.bounds import as_lists
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Networks
from audioldm_utils.results import summaries as results
from audioldm_utils.studies.editing import change_name, edit_curve, edits
from audioldm_utils.studies.prompts import PROMPTS, other_prompt
from audioldm_utils.studies.run import measure
from audioldm_utils.studies.sampling import (
    Sampling,
    equivalences,
    make,
    methods,
    sample_scores,
    set_scores,
)

# %% tags=["hide-input"]
style()
# papermill's -p hands lists over as text.
sizes, changes = as_lists(sizes, changes)
clips = usable_clips(audio_dir, limit)
networks = Networks(load(checkpoint), synthesis=synthesis)

# %% [markdown]
# ## Method
#
# With $k_i$ drawn evenly from $1 \dots K$,
#
# $$x_{i-1} = \mu_i(x_i, c) + \sigma_i\, C_i(k_i), \qquad
#   \epsilon = \epsilon_\varnothing + w\,(\epsilon_c - \epsilon_\varnothing),$$
#
# with the prompt $c$ and classifier-free guidance of $w =$ {glue:text}`guidance`
# {cite:p}`ho2022cfg`. DDPM draws free noise instead of $C_i(k_i)$, and DDIM none
# {cite:p}`song2021ddim`. **Prompt-free guidance (CCFG)** lets the choice do the guiding: the
# reverse process is the unconditional one, and of {glue:text}`subset` random atoms that with the
# largest $\langle C_i(k), \epsilon_\varnothing - \epsilon_c\rangle$ is taken. A decoder of such
# codes needs no prompt.
#
# All methods make the same {glue:text}`prompts` prompts from the same starting noise, with
# {glue:text}`steps` steps and {glue:text}`seconds` of sound. That is short and coarse; it is what a
# processor makes often enough for a comparison. The score is the cosine between prompt and sound
# in the checkpoint's own CLAP {cite:p}`wu2023clap`; the Fréchet distance {cite:p}`kilgour2019fad`
# is taken in the same space and means something within this checkpoint only.
#
# **Equivalence** is asked for by two one-sided tests: the 90 % interval of the mean difference to
# DDPM, over pairs of samples from one starting noise, prompt by prompt, must lie within
# {glue:text}`margin` standard deviations of DDPM's scores.

# %% tags=["show-input", "remove-output"]
how = {"seed": seed, "seconds": seconds, "steps": steps, "guidance": guidance, "subset": subset}
counts = {
    "sizes": sizes, "judged_size": judged_size,
    "judged_samples": judged_samples, "other_samples": other_samples,
}  # fmt: skip
place = {"out_dir": out_dir, "evidence_dir": evidence_dir}
grid = {"synthesis": synthesis, **how, **counts}
judged = measure("06_samples", clips, checkpoint, grid, **place, recheck=samples or None)
about = f"{judged.source}; checkpoint {checkpoint}; seed {seed}"
tests = equivalences(judged.table, sizes, judged_size, margin)
tests.to_csv(Path(out_dir) / "equivalence.csv", index=False)
glue_value("guidance", guidance, ".1f")
glue_value("subset", subset, "d")
glue_value("prompts", len(PROMPTS), "d")
glue_value("steps", steps, "d")
glue_value("seconds", seconds, ".2f", "s")
glue_value("margin", margin, "g")
glue_value("rests", judged.rests)

# %% [markdown]
# {glue:text}`rests`
#
# ## Listen
#
# One prompt by each method, from the same starting noise.

# %% tags=["hide-input"]
rows = []
for _, text in PROMPTS[9:10]:
    conditionings = {text: networks.embed([text], "")}
    takes = []
    for method, stage in [key for key in methods(**counts) if key[1] != "no guidance"]:
        latents = make(networks, method, stage, conditionings, Sampling(**how))
        wave = networks.synthesise(networks.decode(latents))[0].cpu().numpy()
        label = f"{method.removesuffix('-random').upper()}, {stage}"
        takes.append(Take(method, wave, 16000, label))
    rows.append(Row(text, takes))
players(rows, Path(out_dir) / "listening", f"Samplers from one noise; checkpoint {checkpoint}.")

# %% [markdown]
# ## Codebook size against free noise

# %% tags=["hide-input", "remove-output"]
scores = sample_scores(judged.table, methods(**counts))
mean = scores.set_index(["method", "stage"])["mean"]
smallest = f"K = {min(sizes)}"
glue_value("ddpm", mean["ddpm", "CFG"], ".3f")
glue_value("ddim", mean["ddim", "CFG"], ".3f")
glue_value("unguided", mean["ddpm", "no guidance"], ".3f")
glue_value("ccfg", mean["ddcm-random", "prompt-free CCFG"], ".3f")
glue_value("smallest", smallest)
glue_value("smallest_score", mean["ddcm-random", smallest], ".3f")
glue_value("judged_from", f"K = {min([s for s in sizes if s >= judged_size], default=judged_size)}")
tests = tests.set_index("stage", drop=False)
columns = ["difference, deviations", "low", "high", "n", "n, DDPM"]
pooled = tests[columns].reindex(["all judged"]).iloc[0]
glue_value("pooled_difference", pooled["difference, deviations"], ".3f")
glue_table(pooled[["low", "high"]], "pooled_{}", ".3f")
glue_value("pooled_n", pooled["n"], ".0f")
glue_value("ddpm_n", pooled["n, DDPM"], ".0f")
shown = [name for name, yes in tests["equivalent"].items() if yes]
glue_value("verdict", "equivalent" if "all judged" in shown else "not shown to be equivalent")
glue_value("single", ", ".join(n for n in shown if n != "all judged") or "none of them")

# %% tags=["hide-input"]
axes = points_with_intervals(
    scores, "CLAP score of sound and prompt (more is better)", category="label"
)
figure_caption(
    axes.figure,
    "fig-scores",
    f"CLAP score by sampler, mean over samples with 95 % interval; {about}.",
    "One row of points a sampler; those of the larger codebooks lie beside DDPM.",
)

# %% tags=["hide-input"]
plain_table(tests)

# %% [markdown]
# DDPM scores {glue:text}`ddpm` and DDIM {glue:text}`ddim`; the smallest codebook
# ({glue:text}`smallest`) scores {glue:text}`smallest_score`. From {glue:text}`judged_from` on, all
# sizes together ({glue:text}`pooled_n` samples against {glue:text}`ddpm_n`) differ from DDPM by
# {glue:text}`pooled_difference` standard deviations, interval {glue:text}`pooled_low` to
# {glue:text}`pooled_high`: **{glue:text}`verdict`** within the margin. Single sizes that pass by
# themselves: {glue:text}`single`. Without guidance DDPM scores {glue:text}`unguided`; codes that
# guide by their choice, so that the decoder knows no prompt, score {glue:text}`ccfg`.
#
# The theory expects this. An atom drawn by chance from a normal codebook *is* normal noise;
# a small codebook limits only how many different sounds there are.

# %% tags=["hide-input"]
sets = set_scores(judged.table)
plain_table(sets)

# %% [markdown]
# The table holds the Fréchet distance to real clips and the diversity, the mean of one minus the
# cosine between samples of one prompt; it stays empty where a run makes too few samples. The
# numbers of samples differ between rows, and a Fréchet distance falls with their number.
#
# ## Editing: codes under another prompt
#
# A clip is encoded under its own caption. Its codes are then replayed, under the caption up to
# some step and from there on under a prompt of another class.

# %% tags=["show-input", "remove-output"]
edited = {
    "seed": seed, "seconds": seconds, "guidance": guidance,
    "edit_steps": edit_steps, "edit_atoms": edit_atoms, "changes": changes,
}  # fmt: skip
grid = {"synthesis": synthesis, **edited}
editing = measure("06_editing", clips, checkpoint, grid, **place, recheck=1, new_clips=new_clips)
curve = edit_curve(editing.table)
summary = results.summarise(editing.table, by=("method", "stage", "metric"))
value = summary.pivot(index="stage", columns="metric", values="mean")
ends = value.loc[[change_name(min(changes)), change_name(max(changes))]]
ends = ends.set_axis(["early", "never"])
glue_table(ends["target_score"], "target_{}", ".2f")
glue_table(ends["source_correlation"], "source_{}", ".2f")
glue_value("audio_prompt", value.loc["audio prompt", "source_clap"], ".2f")
glue_value("caption", value.loc["caption", "source_clap"], ".2f")
glue_value("no_prompt", value.loc["no prompt", "source_clap"], ".2f")
glue_value("editing_n", editing.n, "d")
glue_value("editing_source", editing.source)

# %% tags=["hide-input"]
axes = curves(
    curve,
    "source_correlation",
    "likeness to the source: log-mel correlation, bin means removed",
    "target score: CLAP cosine with the new prompt",
)
for _, row in curve.iterrows():
    axes.annotate(row["stage"], (row["source_correlation"], row["mean"]), fontsize=8)
figure_caption(
    axes.figure,
    "fig-edit",
    "The later the prompt changes, the more of the source stays; mean over clips with 95 % "
    f"interval. n = {editing.n}; {editing.source}; checkpoint {checkpoint}; seed {seed}.",
    "A curve from few source and more target to much source and less target.",
)

# %% tags=["hide-input"]
rows = []
measured = set(editing.run["clip"])
for info in [info for info in clips if info.name in measured][:1]:
    clip = load_clip(info)
    takes = [
        Take("original" if name == "source" else "ddcm",
             networks.synthesise(networks.decode(z))[0].cpu().numpy(), 16000, name)
        for name, z in edits(clip, networks, **edited).items()
    ]  # fmt: skip
    rows.append(Row(clip.name, takes, f"to «{other_prompt(clip)}»"))
players(rows, Path(out_dir) / "edits", f"One clip's codes, two prompts; checkpoint {checkpoint}.")

# %% [markdown]
# Under the new prompt from the first step on, the target score is {glue:text}`target_early` and
# the log-mel correlates with the source at {glue:text}`source_early`; with the prompt never
# changed they are {glue:text}`target_never` and {glue:text}`source_never`
# ({glue:text}`editing_source`).
#
# **Audio prompts.** With a clip's CLAP embedding in the place of the text's, random codes make
# sound whose embedding has a cosine of {glue:text}`audio_prompt` with the clip's; with the
# caption alone it is {glue:text}`caption`, and with no prompt {glue:text}`no_prompt`.
#
# ## Limits
#
# A CLAP score of this checkpoint is no listener: the same model was trained on the same captions.
# Samples are short and made with few steps. Equivalence of means is not equality of sounds; a
# codebook that all samples share makes them depend on each other, which shows only between
# samples.
#
# ## Next
#
# Whether codes that were *chosen* carry a clip is the matter of the verification chapter.
