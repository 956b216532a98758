# ---
# jupyter:
#   audioldm_utils:
#     after:
#     - 01_bottleneck_analysis
#     - 02_vae_repair
#     - 03_vae_vs_diffusion
#     - 04_codebooks
#     - 05_ddcm_codec
#     - 06_text_to_audio
#     - 07_correlation_verification
#     - 09_model_card
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
# # Summary
#
# Everything that the chapters measured, in one table, and what follows from it.
#
# **The question:** what does the whole say that no chapter says alone? **What would change our
# mind** stands beside each conclusion.

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of the clips that the chapters measured
checkpoint: str = "mini"  # `mini`, a checkpoint folder, or a hub id
out_dir: str = "build/results/08_summary"  # where tables are written, beside those of others
evidence_dir: str = "book/evidence"  # committed tables that findings rest on
limit: int = 0  # as the chapters had it: only so many clips; 0 for all

# %% tags=["hide-input", "remove-output"]
from pathlib import Path

from IPython.display import display

from audioldm_utils.audio.survey import usable_clips
from audioldm_utils.book.plotting import glue_value, plain_table, style
from audioldm_utils.model.checkpoint import load
from audioldm_utils.studies.findings import rests_on_evidence
from audioldm_utils.studies.summary import by_chapter, overview, studies_of

style()
clips = usable_clips(audio_dir, limit)
fingerprint_of = load(checkpoint).fingerprint_of
tables, rests = studies_of(
    Path(out_dir).parent,
    Path(evidence_dir),
    fingerprint_of,
    lambda study, given: rests_on_evidence(study, clips, given, fingerprint_of, evidence_dir),
)
table = overview(tables.items())
Path(out_dir).mkdir(parents=True, exist_ok=True)
table.to_csv(Path(out_dir) / "overview.csv", index=False)
glue_value("rows", len(table), "d")
glue_value("studies", len(tables), "d")
glue_value("rests", rests)
glue_value("methods", table["method"].nunique(), "d")
glue_value("numbers", sum(len(one) for one in tables.values()), ",d")

# %% [markdown]
# ## Method
#
# A number is a mean over clips, $\bar m = \frac{1}{n}\sum_i m_i$; its
# {term}`interval <bootstrap interval>` and its test are in the chapter that it comes from. As
# there, it rests on committed evidence where that is of this run's parameters, checkpoint and
# clips, and else on this run alone. {glue:text}`rests` The table has {glue:text}`rows` rows of
# {glue:text}`methods` methods from {glue:text}`studies` studies, which hold {glue:text}`numbers`
# numbers. Rows of different chapters are of different clips and lengths: compare within a chapter.
#
# ## All methods, all metrics

# %% tags=["hide-input"]
for chapter, part in by_chapter(table):
    display(plain_table(part, caption=chapter))

# %% [markdown]
# ## Conclusions
#
# These are the answers of the chapters, in their own words. They hold for {{checkpoint}} alone.
#
# - **Where sound is lost.** {{01_bottleneck_analysis:answer}}
#   ({{01_bottleneck_analysis:source}}.) *What to do:* {{01_bottleneck_analysis:advice}}
# - **What repairs it.** {{02_vae_repair:answer}} ({{02_vae_repair:source}}.) *What to do:*
#   {{02_vae_repair:advice}}
# - **Diffusion beside the VAE alone.** {{03_vae_vs_diffusion:answer}} *What to do:*
#   {{03_vae_vs_diffusion:advice}}
# - **Codebooks.** {{04_codebooks:answer}} *What to do:* {{04_codebooks:advice}}
# - **DDCM as a codec.** {{05_ddcm_codec:answer}} Beside a residual quantiser at equal rate, DDCM
#   is {{05_ddcm_codec:ranges}}. *What to do:* {{05_ddcm_codec:advice}}
# - **Text to audio.** {{06_text_to_audio:answer}} *What to do:* {{06_text_to_audio:advice}}
# - **Does the output follow its own input?** {{07_correlation_verification:answer}} *What to
#   do:* {{07_correlation_verification:advice}}
# - **The checkpoint itself.** {{09_model_card:answer}}
#
# ## What did not work
#
# - **Waveform measures as judges**: the vocoder makes up the phase, and even the codec's ceiling
#   correlates at {{07_correlation_verification:waveform_vae}} with the input's waveform. Inverted
#   polarity costs an SNR of {{01_bottleneck_analysis:polarity_snr}} and nobody hears it.
# - **Correlation without the means removed**: random indices reach
#   {{07_correlation_verification:latent_ddcm-random}} in latents and prove nothing by it.
# - **The smallest codebook** ({{06_text_to_audio:smallest}}) scores
#   {{06_text_to_audio:smallest_score}}; its sounds share so few atoms that they depend on each
#   other, whatever the score says.
#
# ## Limits
#
# One small checkpoint, trained on a few kinds of sound; recordings of those kinds; no listening
# test with people. What holds for the published weights has to be measured with them: every
# chapter takes `checkpoint` as a parameter.
#
# ## Next
#
# [The complete guide](../guides/complete.md) tells how to do all this with your own sound.
