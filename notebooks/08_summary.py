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
# :::{admonition} The answer
# :class: tip
# **What does the whole say that no chapter says alone?** Each line joins verdicts of several
# chapters, and falls where one of them turns round. They hold for {{checkpoint}} alone.
#
# - **Where better sound has to come from.** The vocoder loses more than the VAE:
#   **{{01_bottleneck_analysis:claim_1}}**. The fitted inverse in its place still loses more than
#   the VAE: **{{01_bottleneck_analysis:claim_2}}**. No way through diffusion has a smaller mel
#   error than the VAE alone: **{{03_vae_vs_diffusion:claim_1}}**. Where all are upheld, improve
#   the step from mel to sound first: by these measures the VAE and the network calls cost less.
# - **What diffusion is for.** To bring a clip back it does not help where the line above is upheld.
#   To code one, DDCM beats the same codec with a linear denoiser: **{{05_ddcm_codec:claim_3}}**;
#   beside a residual quantiser it is {{05_ddcm_codec:ranges}}. The network is worth its calls where
#   latents must be sent in few bits, and not where the full latents are at hand.
# - **What a list of indices is.** Drawn at random, it sounds like free noise by CLAP score:
#   **{{06_text_to_audio:claim_1}}**. Chosen by a clip, it carries more of that clip than random
#   indices do: **{{07_correlation_verification:claim_1}}**, and than noise of the clip's levels in
#   seven bands at every rate: **{{07_correlation_verification:claim_5}}**
#   ({{07_correlation_verification:by_rate}}). Chosen by a
#   prompt, it sounds more like the prompt than without guidance: **{{06_text_to_audio:claim_2}}**.
#   Only where a line is upheld does the choosing pay.
# - **How far this reaches.** The VAE's mel is further from the recording's than a linear map's:
#   **{{01_bottleneck_analysis:claim_5}}**. The denoiser errs less than a linear one:
#   **{{09_model_card:claim_2}}**. Nothing here was measured on a larger checkpoint; mini's
#   denoiser also predicts velocity where the published one predicts noise.
# :::

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

# %% [markdown]
# ## Method
#
# A number is a mean over clips, $\bar m = \frac{1}{n}\sum_i m_i$; its {term}`interval <bootstrap
# interval>` and its test are in the chapter that it comes from. It comes from the tables stored in
# the repository if they were made with the same parameters, checkpoint and clips, and otherwise
# from this run. {glue:text}`rests`
#
# ## The main means
#
# One table a chapter, of {glue:text}`rows` rows from {glue:text}`studies` studies. Compare only
# rows of the same chapter and the same n: clips and lengths differ. Where a row's numbers are of
# unlike many clips, n gives the fewest and the most. Left out are the intervals and verdicts, other
# clips and the controls of the verification, diversity and Fréchet distances of samples, edits, the
# model card and real time: they are in their chapters. In the first chapter's tables, stages such
# as `htk` or `ref-max` are deliberate mistakes; `ddcm-wrong` are the perturbed network's codes. The
# codec chapter counts a header in the rate of `envelope-noise`, the verification does not; DDCM's
# rates always include it. Speech codecs (codec2, speex) are measured on
# speech only.

# %% tags=["hide-input"]
for chapter, part in by_chapter(table):
    display(plain_table(part, digits=2, caption=chapter, folded=True))

# %% [markdown]
# ## What to do
#
# - **Sound from a mel.** {{01_bottleneck_analysis:advice}}
# - **Repairs.** {{02_vae_repair:advice}}
# - **Diffusion.** {{03_vae_vs_diffusion:advice}}
# - **Codebooks.** {{04_codebooks:advice}}
# - **A codec.** {{05_ddcm_codec:advice}}
# - **Text to audio.** {{06_text_to_audio:advice}}
# - **Claims of fidelity.** {{07_correlation_verification:advice}}
# - **This checkpoint.** {{09_model_card:advice}}
#
# ## What did not work
#
# - **The checkpoint's own vocoder**: through it chroma correlates with the recording's at
#   {{01_bottleneck_analysis:chroma_vae-vocoder}}, through the fitted inverse at
#   {{01_bottleneck_analysis:chroma_vae-inverse}}.
# - **All other repairs gained little** beside the fitted inverse alone: by multi-resolution STFT
#   {{02_vae_repair:multi_resolution_stft_vae-restored}}, by ViSQOL
#   {{02_vae_repair:visqol_vae-restored}} (n = {{02_vae_repair:n}}); that they are better by
#   ViSQOL and chroma is {{02_vae_repair:claim_1}}.
# - **Waveform measures as judges**: the synthesis makes up the phase, and even the codec's ceiling
#   correlates at {{07_correlation_verification:waveform_vae}} with the input's waveform. Inverted
#   polarity gives an SNR of {{01_bottleneck_analysis:polarity_snr}}, and every measure that ignores
#   sign stays as it is.
# - **Correlation without the means removed**: random indices reach
#   {{07_correlation_verification:latent_ddcm-random}} in latents and prove nothing by it.
# - **The smallest codebook** ({{06_text_to_audio:smallest}}) scores
#   {{06_text_to_audio:smallest_score}} by CLAP; that it makes more quiet samples than free noise is
#   {{06_text_to_audio:claim_6}}.
#
# ## Limits
#
# One small checkpoint, trained on {{09_model_card:classes}} kinds of sound; recordings of those
# kinds; no listening test with people. What holds for the published weights has to be measured with
# them: every chapter takes `checkpoint` as a parameter.
#
# ## Next
#
# [The complete guide](../guides/complete.md) tells how to do all this with your own sound.
