"""The denoiser and its text side, trained together.

The prompt goes through ``AudioLDM2Pipeline.encode_prompt`` itself, so training and use
condition the UNet in exactly the same way: frozen CLAP and trained T5 embeddings, joined by
the projection model, continued by GPT-2; the UNet attends to GPT-2's sequence and T5's.

It predicts v (Salimans and Ho, arXiv 2202.00512), not the noise: at high noise x_t almost is
the noise, and a network that must hand it on through normalisations, to errors of a few parts in
ten thousand, spends itself on that. Of v nothing is known beforehand at any level.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from audioldm_utils.model.mel import MelConfig, log_mel
from audioldm_utils.studies.linear_denoiser import PATCH, LinearDenoiser
from recipe.captions import augment, joined, t5_tokenizer, vocabulary_text
from recipe.data import Corpus, default_cache, front_end_gain, load_corpus
from recipe.loop import Trainer, mixed_precision

WIDTH = 128
#: Timesteps, of the 1000, at which the denoiser is judged.
LEVELS = (20, 60, 120, 200, 300, 400, 500, 650, 800, 950)
#: How much less often a class of many clips is drawn: 0 by length alone, 1 all classes alike.
BALANCE = 0.6
#: Clips mixed from two others, so that captions of two sounds are heard too.
MIXTURES = 400


def build_scheduler() -> Any:
    """DDIM with the published noise schedule; the network predicts v."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.0015,
        beta_end=0.0195,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
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

    ``key`` names the VAE; captions and lengths tell which clips they are.

    Returns:
        ``latents`` joined over clips ``(frames / 4, 8, 16)`` and ``start`` of each clip.
    """
    clips = "\n".join(corpus.table["caption"]).encode() + corpus.start.tobytes()
    path = cache / f"latents-{key}-{hashlib.sha256(clips).hexdigest()[:12]}.npz"
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
    for first, second in rng.choice(np.flatnonzero(~corpus.held), (count, 2)):
        pair = [corpus.waveform(first), corpus.waveform(second)]
        length = min(len(samples) for samples in pair) // (4 * hop) * 4 * hop
        gain = 10 ** (rng.uniform(-6, 6) / 20)
        mixed = front_end_gain(pair[0][:length] + gain * pair[1][:length]).astype(np.float32)
        audio.append(np.round(mixed * 32767).astype(np.int16))
        mels.append(log_mel(torch.from_numpy(mixed)[None])[0].numpy().astype(np.float16))
        frames.append(length // hop)
        names = corpus.table["caption"].iloc[[first, second]].tolist()
        captions.append(joined(*names))
    return Corpus(
        table=pd.DataFrame({"caption": captions, "class": "mixture", "frames": frames}),
        audio=np.concatenate(audio),
        mel=np.concatenate(mels),
        start=np.concatenate([[0], np.cumsum(frames)]),
    )


def level_weights(alphas_bar: torch.Tensor, linear: LinearDenoiser) -> torch.Tensor:
    """Weight of the squared error of v at each timestep, ``(steps,)``.

    The noise's error is alpha-bar times that of v. Divided by what the best linear denoiser
    leaves, each level counts alike (in the manner of Choi et al., arXiv 2204.00227), and the
    mean over levels is the ratio that the card asks for.
    """
    return torch.tensor([a / linear.noise_error(a) for a in alphas_bar.tolist()])


@torch.no_grad()
def denoiser_ratios(
    estimate: Callable[[torch.Tensor, torch.Tensor, str], torch.Tensor],
    latents: Sequence[torch.Tensor],
    captions: Sequence[str],
    linear: LinearDenoiser,
    alphas_bar: torch.Tensor,
) -> dict[int, dict[str, float]]:
    """Squared error of the noise at `LEVELS`, the network's and the best linear denoiser's.

    Places nearer to an edge than half a patch are left out: the linear one sees less there.

    Args:
        estimate: of the noise, from x_t ``(levels, 8, frames, 16)``, timesteps and a caption.
        latents: scaled, ``(8, frames, 16)`` each, at least a patch long.
        captions: one a clip.
    """
    generator, half = torch.Generator().manual_seed(0), PATCH // 2
    levels = torch.tensor(LEVELS)
    a = alphas_bar[levels][:, None, None, None]
    errors = []
    for z, caption in zip(latents, captions, strict=True):
        noise = torch.randn((len(LEVELS), *z.shape), generator=generator)
        x_t = a.sqrt() * z + (1 - a).sqrt() * noise
        ours = estimate(x_t, levels, caption).float().cpu()
        theirs = torch.stack([linear.noise(x, float(b)) for x, b in zip(x_t, a, strict=True)])
        inner = (..., slice(half, z.shape[1] - half), slice(None))
        errors.append([(e - noise)[inner].square().mean((1, 2, 3)).numpy() for e in (ours, theirs)])
    ours, theirs = np.mean(errors, axis=0)
    return {
        level: {"network": float(x), "linear": float(y), "ratio": float(x / y)}
        for level, x, y in zip(LEVELS, ours, theirs, strict=True)
    }


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


def latent_corpus(
    vae: torch.nn.Module, corpus: Corpus, key: str, seed: int
) -> tuple[list[torch.Tensor], pd.DataFrame]:
    """Latents ``(frames, 8, 16)`` of all clips of train and of mixtures, and their table.

    The table has ``caption``, ``class`` and ``held``: held-out clips are in no mixture.
    """
    mixtures = mix_corpus(corpus, MIXTURES, seed)
    latents = []
    for part in (corpus, mixtures):
        found = encode_corpus(vae, part, default_cache(), key)
        rows = zip(found["start"][:-1], found["start"][1:], strict=True)
        latents += [torch.from_numpy(found["latents"][a:b]) for a, b in rows]
    tables = [corpus.table.assign(held=corpus.held), mixtures.table.assign(held=False)]
    return latents, pd.concat(tables, ignore_index=True)[["caption", "class", "held"]]


def train_unet(
    data: str | Path,
    folder: str | Path,
    budget: float,
    seed: int = 0,
    device: str = "cpu",
    start: str | Path | None = None,
    learning_rate: float = 6e-4,
    batch: int = 16,
) -> None:
    """Train UNet, T5, GPT-2 and projection; needs ``vae`` and ``text_encoder`` in ``folder``.

    Args:
        data, folder, budget, seed, device: as for every component.
        start: checkpoint folder to begin from, rather than from random weights.
        learning_rate: peak.
        batch: pieces of 2.56 s in a step; fewer of the longer ones.
    """
    from diffusers import AudioLDM2Pipeline, AutoencoderKL
    from diffusers.utils import logging

    from audioldm_utils.files import sha256_file

    logging.set_verbosity_error()  # the pipeline tells of every caption that CLAP has no room for
    folder = Path(folder)
    corpus = load_corpus(data)
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    key = sha256_file(folder / "vae" / "diffusion_pytorch_model.safetensors")[:12]
    latents, table = latent_corpus(vae, corpus, key, seed)
    categories, captions = table["class"].to_numpy(), table["caption"].tolist()
    frequency = table["class"].map(table["class"].value_counts()).to_numpy(float)
    weights = np.array([len(z) for z in latents]) * frequency**-BALANCE * ~table["held"]
    weights = (weights / weights.sum()).to_numpy()
    silence = vae.encode(torch.full((1, 1, 64, 64), MelConfig().silence)).latent_dist.mode()
    silence = (silence * vae.config.scaling_factor).mean(2)[0].detach()  # (8, 16)

    torch.manual_seed(seed)
    if start:
        tokenizer_2, modules = load_trained(Path(start))
    else:
        tokenizer_2 = t5_tokenizer(vocabulary_text(corpus.table))
        modules = {"unet": build_unet(), **build_text(len(tokenizer_2))}
    tokenizer_2.save_pretrained(folder / "tokenizer_2")
    scheduler = build_scheduler()
    given = {"vae": vae, "vocoder": None, "scheduler": scheduler, "tokenizer_2": tokenizer_2}
    pipe = assemble(folder, **given, **modules).to(device)
    pipe.text_encoder.requires_grad_(False)
    alphas_bar = scheduler.alphas_cumprod.float()
    whole = [z.float().permute(1, 0, 2) for z in latents]
    usable = ~table["held"].to_numpy() & (np.array([len(z) for z in latents]) >= PATCH)
    linear = LinearDenoiser.fit([whole[i] for i in np.flatnonzero(usable)[::4]])
    weight = level_weights(alphas_bar, linear)

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

    def loss(rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        # 2.56 s mostly, then longer clips, so that attention has seen their lengths.
        count, frames = (batch, 64) if progress < 0.75 or rng.random() < 0.5 else (batch // 3, 160)
        if progress > 0.9 and rng.random() < 0.3:
            count, frames = max(batch // 4, 1), 256
        x0, text = batch_of(rng, count, frames)
        noise = torch.from_numpy(rng.standard_normal(x0.shape, np.float32))
        # One level from each of ``count`` equal parts: less chance from batch to batch.
        t = torch.from_numpy(((np.arange(count) + rng.random(count)) * 1000 / count).astype(int))
        a = alphas_bar[t][:, None, None, None]
        x_t, v = a.sqrt() * x0 + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x0
        drops = torch.from_numpy(rng.random((3, count)))
        with mixed_precision(device):
            conditions = dropped(*pipe.encode_prompt([*text, ""], device, 1, False), drops)
            estimate = pipe.unet(x_t.to(device), t.to(device), **conditions).sample
        error = (estimate.float() - v.to(device)).square().mean((1, 2, 3))
        value = (weight[t].to(device) * error).mean()
        return value, {"weighted": value.item(), "velocity": error.mean().item()}

    tune = np.flatnonzero(table["held"] & (np.array([len(z) for z in latents]) >= 64))[::2]

    def evaluate(average: dict[str, torch.nn.Module]) -> dict[str, float]:
        judged = AudioLDM2Pipeline(**{**pipe.components, **average}).to(device)

        def estimate(x_t: torch.Tensor, t: torch.Tensor, text: str) -> torch.Tensor:
            t5, mask, generated = judged.encode_prompt([text] * len(t), device, 1, False)
            v = judged.unet(
                x_t.to(device),
                t.to(device),
                encoder_hidden_states=generated,
                encoder_hidden_states_1=t5,
                encoder_attention_mask_1=mask,
            ).sample
            a = alphas_bar[t][:, None, None, None]
            return (1 - a).sqrt() * x_t + a.sqrt() * v.float().cpu()

        clips = [whole[i][:, :64] for i in tune]
        found = denoiser_ratios(estimate, clips, [captions[i] for i in tune], linear, alphas_bar)
        ratios = {f"ratio_{level}": row["ratio"] for level, row in found.items()}
        return {"ratio": float(np.mean(list(ratios.values()))), **ratios}

    trainer = Trainer(
        "unet",
        modules,
        loss,
        folder,
        budget,
        learning_rate=learning_rate,
        seed=seed,
        evaluate=evaluate,
        evaluate_every=900,
        decay=0.9995,
        weight_decay=0.01,
    )
    for name, module in trainer.run().items():
        module.cpu().save_pretrained(folder / name, safe_serialization=True)
    scheduler.save_pretrained(folder / "scheduler")


def dropped(
    t5: torch.Tensor, mask: torch.Tensor, generated: torch.Tensor, drops: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The UNet's conditions, some replaced by the last row's, which is of the empty prompt.

    Each stream is dropped alone as often as both, so that neither is ignored.

    Args:
        t5, mask, generated: as ``encode_prompt`` gives them, ``(count + 1, ...)``.
        drops: uniform numbers ``(3, count)``: of both streams, of GPT-2's, of T5's.
    """
    drops = drops.to(t5.device)
    none = drops[0] < 0.1
    no_gpt, no_t5 = none | (drops[1] < 0.12), none | (drops[2] < 0.12)
    return {
        "encoder_hidden_states": torch.where(no_gpt[:, None, None], generated[-1:], generated[:-1]),
        "encoder_hidden_states_1": torch.where(no_t5[:, None, None], t5[-1:], t5[:-1]),
        "encoder_attention_mask_1": torch.where(no_t5[:, None], mask[-1:], mask[:-1]),
    }
