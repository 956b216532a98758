"""Tiny AudioLDM2 checkpoints of the published layout, with random weights.

Every component has the published class, file names and geometry (64 mel bands, 8 latent
channels, 4x down, 16 kHz, dual cross-attention), only narrow and shallow, so that a test
that passes here exercises the code that ``cvssp/audioldm2`` takes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

CLAP_WIDTH, T5_WIDTH, GPT2_WIDTH = 16, 24, 32
SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}


def vae() -> torch.nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        latent_channels=8,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        scaling_factor=0.37,
        sample_size=64,
    )


def vocoder(**changes) -> torch.nn.Module:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    settings = {
        "model_in_dim": 64,
        "sampling_rate": 16000,
        "upsample_initial_channel": 32,
        "upsample_rates": [5, 4, 2, 2, 2],
        "upsample_kernel_sizes": [16, 16, 8, 4, 4],
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3]],
        "normalize_before": False,
        "initializer_range": 0.2,
    }
    return SpeechT5HifiGan(SpeechT5HifiGanConfig(**(settings | changes)))


def unet() -> torch.nn.Module:
    from diffusers import AudioLDM2UNet2DConditionModel

    return AudioLDM2UNet2DConditionModel(
        sample_size=64,
        in_channels=8,
        out_channels=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=((None, GPT2_WIDTH, T5_WIDTH),) * 2,
    )


def clap(vocabulary: int) -> torch.nn.Module:
    from transformers import ClapConfig, ClapModel

    text = {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "max_position_embeddings": 66,
        "projection_dim": CLAP_WIDTH,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }
    audio = {
        "spec_size": 32,
        "num_mel_bins": 16,
        "window_size": 4,
        "patch_size": 4,
        "patch_stride": [4, 4],
        "patch_embeds_hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "projection_dim": CLAP_WIDTH,
    }
    return ClapModel(
        ClapConfig(text_config=text, audio_config=audio, projection_dim=CLAP_WIDTH)
    ).eval()


def tokenizers() -> tuple:
    """A byte-level Roberta tokenizer without merges and a letter-wise T5 tokenizer."""
    from tokenizers import pre_tokenizers
    from transformers import RobertaTokenizer, T5Tokenizer

    pieces = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    roberta = RobertaTokenizer(
        vocab={piece: index for index, piece in enumerate([*pieces, "<mask>"])},
        merges=[],
        model_max_length=64,
    )
    letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789,.'"]
    t5 = T5Tokenizer(vocab=letters, extra_ids=0, model_max_length=64)
    return roberta, t5


def components(seed: int = 0) -> dict:
    """All eleven components of the pipeline, by the names of ``model_index.json``."""
    from diffusers import AudioLDM2ProjectionModel, DDIMScheduler
    from transformers import (
        ClapFeatureExtractor,
        GPT2Config,
        GPT2LMHeadModel,
        T5Config,
        T5EncoderModel,
    )

    roberta, t5 = tokenizers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        language_model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=10, n_embd=GPT2_WIDTH, n_layer=1, n_head=2, n_positions=128,
                bos_token_id=0, eos_token_id=0,
            )
        )  # fmt: skip
        # The pipeline reads this non-standard entry, as the published configuration has it.
        language_model.config.max_new_tokens = 8
        parts = {
            "vae": vae(),
            "vocoder": vocoder(),
            "unet": unet(),
            "text_encoder": clap(len(roberta)),
            "text_encoder_2": T5EncoderModel(
                T5Config(
                    vocab_size=len(t5), d_model=T5_WIDTH, d_kv=8, d_ff=32, num_layers=1,
                    num_heads=2,
                )
            ),
            "language_model": language_model,
            "projection_model": AudioLDM2ProjectionModel(CLAP_WIDTH, T5_WIDTH, GPT2_WIDTH),
        }  # fmt: skip
    for part in parts.values():
        part.eval()
    return parts | {
        "scheduler": DDIMScheduler(**SCHEDULER),
        "tokenizer": roberta,
        "tokenizer_2": t5,
        "feature_extractor": ClapFeatureExtractor(
            feature_size=16, hop_length=1600, truncation="rand_trunc", max_length_s=1
        ),
    }


def build_checkpoint(folder: str | Path, seed: int = 0, **save_options) -> Path:
    """Write a whole tiny checkpoint; ``save_options`` go to ``save_pretrained``."""
    from diffusers import AudioLDM2Pipeline

    AudioLDM2Pipeline(**components(seed)).save_pretrained(folder, **save_options)
    return Path(folder)


def as_published(source: str | Path, folder: str | Path) -> Path:
    """Copy a checkpoint, its language model as the published one has it: ``GPT2Model``."""
    from transformers import GPT2LMHeadModel

    folder = Path(folder)
    shutil.copytree(source, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["language_model"] = ["transformers", "GPT2Model"]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
    model = GPT2LMHeadModel.from_pretrained(folder / "language_model").transformer
    shutil.rmtree(folder / "language_model")
    model.save_pretrained(folder / "language_model")
    return folder


def barely(self, x, t, both):
    """In place of ``Denoiser._run`` in tests that are not about the network: x as it came."""
    self.calls += len(x) * (1 + both)
    return torch.cat([x, x]) if both else x
