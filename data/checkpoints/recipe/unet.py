"""The denoiser and its text side, trained together on epsilon prediction.

The prompt goes through ``AudioLDM2Pipeline.encode_prompt`` itself, so training and use
condition the UNet in exactly the same way: frozen CLAP and trained T5 embeddings, joined by
the projection model, continued by GPT-2; the UNet attends to GPT-2's sequence and T5's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from audioldm_utils.model.linear_denoiser import PATCH, LinearDenoiser
from audioldm_utils.model.mel import MelConfig, log_mel
from recipe.captions import augment, joined, t5_tokenizer, vocabulary_text
from recipe.data import Corpus, default_cache, front_end_gain, load_corpus
from recipe.loop import Trainer, mixed_precision
from recipe.noise_path import fit_output, open_noise_path, read_noise_path

WIDTH = 128
#: Clips mixed from two others, so that captions of two sounds are heard too.
MIXTURES = 400


def build_scheduler() -> Any:
    """DDIM with the published noise schedule."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.0015,
        beta_end=0.0195,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def build_unet() -> torch.nn.Module:
    """AudioLDM2's UNet with two cross-attention streams, in three levels."""
    from diffusers import AudioLDM2UNet2DConditionModel

    return AudioLDM2UNet2DConditionModel(
        sample_size=64,
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 96, 144),
        layers_per_block=1,
        norm_num_groups=16,
        # No attention at full resolution: 4,096 positions for 10.24 s.
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=((None, WIDTH, WIDTH),) * 3,
        attention_head_dim=4,
    )


def build_text(t5_vocabulary: int, clap_dimension: int = 128) -> dict[str, torch.nn.Module]:
    """T5 encoder, projection model and GPT-2 of ``WIDTH`` each."""
    from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5EncoderModel

    t5 = T5EncoderModel(
        T5Config(
            vocab_size=t5_vocabulary,
            d_model=WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        )
    )
    gpt2 = GPT2LMHeadModel(
        # It continues embeddings and has no words; GPT-2's own end token would be out of range.
        GPT2Config(
            vocab_size=1,
            n_positions=128,
            n_embd=WIDTH,
            n_layer=2,
            n_head=4,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    gpt2.config.max_new_tokens = 8
    projection = AudioLDM2ProjectionModel(
        text_encoder_dim=clap_dimension, text_encoder_1_dim=WIDTH, langauge_model_dim=WIDTH
    )
    return {"text_encoder_2": t5, "language_model": gpt2, "projection_model": projection}


def assemble(folder: Path, **components: Any) -> Any:
    """The pipeline of the components saved in ``folder``, with ``components`` in their place."""
    from diffusers import AudioLDM2Pipeline, AutoencoderKL
    from transformers import (
        ClapFeatureExtractor,
        ClapModel,
        RobertaTokenizer,
        SpeechT5HifiGan,
        T5Tokenizer,
    )

    kinds = {
        "vae": AutoencoderKL,
        "text_encoder": ClapModel,
        "vocoder": SpeechT5HifiGan,
        "tokenizer": RobertaTokenizer,
        "tokenizer_2": T5Tokenizer,
        "feature_extractor": ClapFeatureExtractor,
    }
    for name, kind in kinds.items():
        if name not in components:
            components[name] = kind.from_pretrained(folder / name)
    return AudioLDM2Pipeline(**components)


@torch.no_grad()
def encode_corpus(vae: torch.nn.Module, corpus: Corpus, cache: Path, key: str) -> dict[str, Any]:
    """Scaled latents of every clip (posterior mode), float16, encoded once.

    Returns:
        ``latents`` joined over clips ``(frames / 4, 8, 16)`` and ``start`` of each clip.
    """
    path = cache / f"latents-{key}.npz"
    if not path.exists():
        rows, lengths = [], []
        for clip in tqdm(range(len(corpus)), desc="latents", unit="clip"):
            mel = corpus.log_mel(clip)
            mel = torch.from_numpy(mel[: len(mel) // 4 * 4])[None, None]
            z = vae.encode(mel).latent_dist.mode() * vae.config.scaling_factor
            rows.append(z[0].permute(1, 0, 2).numpy().astype(np.float16))
            lengths.append(len(rows[-1]))
        np.savez(path, latents=np.concatenate(rows), lengths=np.array(lengths))
    loaded = np.load(path)
    return {
        "latents": loaded["latents"],
        "start": np.concatenate([[0], np.cumsum(loaded["lengths"])]),
    }


def mix_corpus(corpus: Corpus, count: int, seed: int) -> Corpus:
    """Pairs of clips added at random relative levels, captioned as both."""
    rng = np.random.default_rng(seed)
    hop = MelConfig().hop_length
    audio, mels, frames, captions = [], [], [], []
    for first, second in rng.integers(0, len(corpus), (count, 2)):
        pair = [corpus.waveform(first), corpus.waveform(second)]
        length = min(len(samples) for samples in pair) // (4 * hop) * 4 * hop
        gain = 10 ** (rng.uniform(-6, 6) / 20)
        mixed = front_end_gain(pair[0][:length] + gain * pair[1][:length]).astype(np.float32)
        audio.append(np.round(mixed * 32767).astype(np.int16))
        mels.append(log_mel(torch.from_numpy(mixed)[None])[0].numpy().astype(np.float16))
        frames.append(length // hop)
        names = corpus.table["caption"].iloc[[first, second]].tolist()
        captions.append(joined(*names))
    import pandas as pd

    return Corpus(
        table=pd.DataFrame({"caption": captions, "class": "mixture", "frames": frames}),
        audio=np.concatenate(audio),
        mel=np.concatenate(mels),
        start=np.concatenate([[0], np.cumsum(frames)]),
    )


def level_weights(alphas_bar: torch.Tensor, latents: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weight of the squared epsilon error at each timestep, ``(steps,)``.

    At high noise epsilon is almost x_t itself, and even a linear denoiser errs by little; an
    error as small as at low noise is there many times what the clean latents hold. Divided by
    what the best linear denoiser leaves, each level counts alike (in the manner of Choi et al.,
    arXiv 2204.00227), and the mean over levels is the ratio that the card asks for.

    Args:
        alphas_bar: cumulated signal power of each timestep, ``(steps,)``.
        latents: that the linear denoiser is fitted on, ``(channels, frames, places)`` each.
    """
    linear = LinearDenoiser.fit(latents)
    return torch.tensor([1 / linear.noise_error(a) for a in alphas_bar.tolist()])


#: Normalisation groups of the last layer that carry x_t, and batches that refit what reads them.
PATH_GROUPS = (0, 4, 6, 7, 8, 13)
PATH_BATCHES = 24


def _straighten(
    unet: torch.nn.Module,
    draw: Callable[[np.random.Generator, float], tuple[dict, torch.Tensor]],
    weight: torch.Tensor,
    rng: np.random.Generator,
    refit: bool,
) -> None:
    """Open the noise's path; a trained UNet's last layer is then fitted anew."""
    carriers = open_noise_path(unet, PATH_GROUPS)
    if not refit:
        # An untrained network begins as epsilon = x_t, which is right at high noise.
        read_noise_path(unet, carriers)
        return

    def batches() -> Iterator[tuple[Callable[[], object], torch.Tensor, torch.Tensor]]:
        for _ in tqdm(range(PATH_BATCHES), desc="last layer", unit="batch"):
            with torch.no_grad():
                inputs, noise = draw(rng, 0.0)
            yield partial(unet, **inputs), noise, weight[inputs["timestep"]]

    fit_output(unet.eval(), batches())


def load_trained(start: Path) -> tuple[Any, dict[str, torch.nn.Module]]:
    """Tokenizer, UNet and trained text side of an earlier checkpoint, in single precision."""
    from diffusers import AudioLDM2UNet2DConditionModel
    from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
    from transformers import GPT2LMHeadModel, T5EncoderModel, T5Tokenizer

    kinds = {
        "unet": AudioLDM2UNet2DConditionModel,
        "text_encoder_2": T5EncoderModel,
        "language_model": GPT2LMHeadModel,
        "projection_model": AudioLDM2ProjectionModel,
    }
    modules = {
        name: kind.from_pretrained(start / name, torch_dtype=torch.float32)
        for name, kind in kinds.items()
    }
    return T5Tokenizer.from_pretrained(start / "tokenizer_2"), modules


def train_unet(
    data: str | Path,
    folder: str | Path,
    budget: float,
    seed: int = 0,
    device: str = "cpu",
    start: str | Path | None = None,
    learning_rate: float = 6e-4,
    batch: int = 16,
    noise_path: bool = False,
) -> None:
    """Train UNet, T5, GPT-2 and projection; needs ``vae``, ``clap`` and ``vocoder`` saved.

    Args:
        start: checkpoint folder to begin from, rather than from random weights.
        batch: pieces of 2.56 s in a step; fewer of the longer ones.
        noise_path: give ``start``'s UNet, which has none yet, a straight way for the noise
            (:mod:`recipe.noise_path`) before going on. New ones get it anyway.
    """
    from diffusers import AutoencoderKL

    from audioldm_utils.files import sha256_file

    folder = Path(folder)
    corpus = load_corpus(data)
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    key = sha256_file(folder / "vae" / "diffusion_pytorch_model.safetensors")[:12]
    cache = default_cache()
    parts = [
        (corpus.table, encode_corpus(vae, corpus, cache, f"train-{key}")),
    ]
    mixtures = mix_corpus(corpus, MIXTURES, seed)
    parts.append((mixtures.table, encode_corpus(vae, mixtures, cache, f"mix-{key}-{seed}")))
    latents = [
        torch.from_numpy(part["latents"][part["start"][row] : part["start"][row + 1]])
        for _, part in parts
        for row in range(len(part["start"]) - 1)
    ]
    captions = [caption for table, _ in parts for caption in table["caption"]]
    categories = [category for table, _ in parts for category in table["class"]]
    counts = {category: categories.count(category) for category in set(categories)}
    weights = np.array(
        [len(z) * counts[category] ** -0.4 for z, category in zip(latents, categories, strict=True)]
    )
    weights /= weights.sum()
    silence = vae.encode(torch.full((1, 1, 64, 64), MelConfig().silence)).latent_dist.mode()
    silence = (silence * vae.config.scaling_factor).mean(2)[0].detach()  # (8, 16)

    torch.manual_seed(seed)
    if start:
        tokenizer_2, modules = load_trained(Path(start))
    else:
        tokenizer_2 = t5_tokenizer(vocabulary_text(corpus.table))
        modules = {"unet": build_unet(), **build_text(len(tokenizer_2))}
    tokenizer_2.save_pretrained(folder / "tokenizer_2")
    pipe = assemble(
        folder,
        vae=vae,
        vocoder=None,
        scheduler=build_scheduler(),
        tokenizer_2=tokenizer_2,
        **modules,
    )
    pipe.text_encoder.requires_grad_(False)
    alphas_bar = pipe.scheduler.alphas_cumprod.float()
    weight = level_weights(
        alphas_bar, [z.float().permute(1, 0, 2) for z in latents[::8] if len(z) >= PATCH]
    )

    def batch_of(rng: np.random.Generator, count: int, frames: int) -> tuple[torch.Tensor, list]:
        out = silence[None, None].expand(count, frames, 8, 16).clone()
        text = []
        for row, clip in enumerate(rng.choice(len(latents), size=count, p=weights)):
            z = latents[clip]
            first = rng.integers(0, max(len(z) - frames, 0) + 1)
            piece = z[first : first + frames].float()
            out[row, : len(piece)] = piece
            caption, category = captions[clip], categories[clip]
            text.append(caption if category == "mixture" else augment(caption, category, rng))
        return out.permute(0, 2, 1, 3), text

    def draw(rng: np.random.Generator, progress: float) -> tuple[dict, torch.Tensor]:
        """A batch as the UNet takes it, and the noise that it should find."""
        # 2.56 s mostly, then longer clips, so that attention has seen their lengths.
        count, frames = (batch, 64) if progress < 0.75 or rng.random() < 0.5 else (batch // 3, 160)
        if progress > 0.9 and rng.random() < 0.3:
            count, frames = max(batch // 4, 1), 256
        x0, text = batch_of(rng, count, frames)
        noise = torch.from_numpy(rng.standard_normal(x0.shape, np.float32))
        # One level from each of ``count`` equal parts: less chance from batch to batch.
        t = torch.from_numpy(((np.arange(count) + rng.random(count)) * 1000 / count).astype(int))
        root = alphas_bar[t].sqrt()[:, None, None, None]
        spread = (1 - alphas_bar[t]).sqrt()[:, None, None, None]
        t5, mask, generated = pipe.encode_prompt([*text, ""], device, 1, False)
        # Each stream is dropped alone as often as both, so that neither is ignored.
        drop = torch.from_numpy(rng.random((3, count)))
        no_text = (drop[0] < 0.1)[:, None, None]
        no_gpt = (no_text[:, 0, 0] | (drop[1] < 0.12))[:, None, None]
        no_t5 = (no_text[:, 0, 0] | (drop[2] < 0.12))[:, None, None]
        return {
            "sample": root * x0 + spread * noise,
            "timestep": t,
            "encoder_hidden_states": torch.where(no_gpt, generated[-1:], generated[:-1]),
            "encoder_hidden_states_1": torch.where(no_t5, t5[-1:], t5[:-1]),
            "encoder_attention_mask_1": torch.where(no_t5[:, 0], mask[-1:], mask[:-1]),
        }, noise

    def loss(rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        with mixed_precision(device):
            inputs, noise = draw(rng, progress)
            estimate = pipe.unet(**inputs).sample
        error = (estimate.float() - noise).square().mean((1, 2, 3))
        weighted = (weight[inputs["timestep"]] * error).mean()
        return weighted, {"epsilon": error.mean().item(), "weighted": weighted.item()}

    trained_before = (folder / "unet.pt").exists()
    if (noise_path or not start) and not trained_before:
        _straighten(modules["unet"], draw, weight, np.random.default_rng(seed), bool(start))

    trainer = Trainer(
        "unet",
        modules,
        loss,
        folder,
        budget,
        learning_rate=learning_rate,
        seed=seed,
        decay=0.999,
        weight_decay=0.01,
    )
    for name, module in trainer.run().items():
        module.save_pretrained(folder / name, safe_serialization=True)
    pipe.scheduler.save_pretrained(folder / "scheduler")


if __name__ == "__main__":
    import sys

    torch.set_num_threads(1)
    train_unet(sys.argv[1], sys.argv[2], float(sys.argv[3]))
