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
gathered = studies_of(
    Path(out_dir).parent,
    Path(evidence_dir),
    fingerprint_of,
    lambda study, given: rests_on_evidence(study, clips, given, fingerprint_of, evidence_dir),
)
tables = gathered.tables
table = overview(tables.items())
Path(out_dir).mkdir(parents=True, exist_ok=True)
table.to_csv(Path(out_dir) / "overview.csv", index=False)
glue_value("rows", len(table), "d")
glue_value("studies", len(tables), "d")
glue_value("rests", gathered.rests)
glue_value("methods", table["method"].nunique(), "d")
glue_value("numbers", sum(len(one) for one in tables.values()), ",d")

# %% [markdown]
# ## Method
#
# A number is a mean over clips, $\bar m = \frac{1}{n}\sum_i m_i$; its interval and its test are in
# the chapter that it comes from. As there, it rests on committed evidence where that is of this
# run's parameters, checkpoint and clips, and else on this run alone. {glue:text}`rests` The table
# has {glue:text}`rows` rows of {glue:text}`methods` methods from {glue:text}`studies` studies,
# which hold {glue:text}`numbers` numbers. Rows of different chapters are of different clips and
# lengths: compare within a chapter.
#
# ## All methods, all metrics

# %% tags=["hide-input"]
for chapter, part in by_chapter(table):
    display(plain_table(part, caption=chapter))

# %% [markdown]
# ## Conclusions
#
# For {{checkpoint}}, and only for it:
#
# - **The bottleneck** of reconstruction is the {{01_bottleneck_analysis:bottleneck}}: log-mel
#   distance {{01_bottleneck_analysis:mel_vae-vocoder}} through both VAE and vocoder,
#   {{01_bottleneck_analysis:mel_vae-griffinlim}} with Griffin-Lim in the vocoder's place. *Another
#   vocoder that does no better would change our mind.*
# - **Repairs without new weights** change the log-mel distance by
#   {{02_vae_repair:log_mel_distance_vae-restored}}, the multi-resolution STFT distance by
#   {{02_vae_repair:multi_resolution_stft_vae-restored}} and ViSQOL by
#   {{02_vae_repair:visqol_vae-restored}} when all are put together; of
#   {{02_vae_repair:bounds}} bounds set before, {{02_vae_repair:kept}} are kept. *A repair that
#   betters only what it minimises would change our mind.*
# - **Diffusion beside the VAE alone**: log-mel distance to the clip
#   {{03_vae_vs_diffusion:mel_vae}} for the VAE, {{03_vae_vs_diffusion:mel_sdedit_middle}} for
#   SDEdit at strength {{03_vae_vs_diffusion:strength_middle}}, and
#   {{03_vae_vs_diffusion:mel_guided_middle}} with guidance at the same network calls. *A method
#   that is nearer to the clip than the VAE, and as plausible, would change our mind.*
# - **Shifts of one vector as a codebook**: the best of {{04_codebooks:bits_16}} has a cosine
#   of {{04_codebooks:white_16}} where independent entries would have {{04_codebooks:theory_16}}; on
#   the denoiser's own residuals their efficiency is {{04_codebooks:real_shift}}, that of the
#   paper's independent entries {{04_codebooks:real_paper}}. *An efficiency below the paper's on
#   real residuals would change our mind.*
# - **The codec works at rates where others stop**: the latents correlate at
#   {{05_ddcm_codec:correlation_low}} at {{05_ddcm_codec:rate_low}} and at
#   {{05_ddcm_codec:correlation_high}} at {{05_ddcm_codec:rate_high}}; the error
#   {{05_ddcm_codec:verdict}} up in rate. *An error that stops falling would change our mind.*
# - **Does the output follow its own input?** Own codes are {{07_correlation_verification:verdict}}
#   ({{07_correlation_verification:passed}} of {{07_correlation_verification:asked}} comparisons,
#   smallest effect {{07_correlation_verification:weakest_effect}}, against
#   {{07_correlation_verification:weakest}}). The control is
#   {{07_correlation_verification:control}}. *A control that passes would change our mind.*
# - **Random codes against free noise**: {{06_text_to_audio:answer}} *Listeners who tell them apart
#   would change our mind.*
# - **Prompts without a prompt in the file**: guidance by the choice of codes scores
#   {{06_text_to_audio:ccfg}}, no guidance {{06_text_to_audio:unguided}} and guidance by the network
#   {{06_text_to_audio:ddpm}}.
# - **The checkpoint itself** meets {{09_model_card:met}} of {{09_model_card:figures}} figures that
#   were asked of it; missed: {{09_model_card:missed}}.
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
