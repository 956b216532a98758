"""A small CLAP: caption and audio embeddings trained contrastively (arXiv 2211.06687)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from recipe.captions import augment, roberta_tokenizer, vocabulary_text
from recipe.data import Corpus, default_cache, load_corpus
from recipe.loop import Trainer, mixed_precision

EMBEDDING = 128
BATCH = 48


def build_clap(vocabulary: int, max_length: int) -> torch.nn.Module:
    """ClapModel with a RoBERTa text branch and an HTSAT audio branch, about 3 M."""
    from transformers import ClapAudioConfig, ClapConfig, ClapModel, ClapTextConfig

    text = ClapTextConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=max_length + 2,
        projection_dim=EMBEDDING,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    audio = ClapAudioConfig(
        patch_embeds_hidden_size=32,
        depths=[1, 1, 2, 1],
        num_attention_heads=[2, 4, 8, 8],
        hidden_size=256,
        projection_dim=EMBEDDING,
        enable_fusion=False,
        num_mel_bins=64,
        spec_size=256,
    )
    return ClapModel(
        ClapConfig(
            text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=EMBEDDING
        )
    )


def feature_extractor() -> Any:
    """CLAP's log-mel features at this checkpoint's own 16 kHz."""
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=16000,
        hop_length=160,
        max_length_s=10,
        fft_window_size=1024,
        frequency_min=50,
        frequency_max=8000,
        truncation="rand_trunc",
        padding="repeatpad",
    )


def audio_features(corpus: Corpus, cache: Path) -> np.ndarray:
    """Features of every clip, float16 ``(clips, 1, frames, 64)``, computed once."""
    path = cache / f"clap-{len(corpus)}-{int(corpus.start[-1])}.npy"
    if not path.exists():
        extract = feature_extractor()
        rows = [
            extract(
                corpus.waveform(clip)[:160000], sampling_rate=16000, return_tensors="np"
            ).input_features[0]
            for clip in tqdm(range(len(corpus)), desc="CLAP features", unit="clip")
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.stack(rows).astype(np.float16))
    return np.load(path, mmap_mode="r")


def contrastive_loss(
    text: torch.Tensor, audio: torch.Tensor, scale: torch.Tensor, same: torch.Tensor
) -> torch.Tensor:
    """Symmetric cross-entropy where every pair in ``same`` is a positive.

    Many clips share a caption, so the usual diagonal target would push equals apart.
    """
    logits = scale * text @ audio.T
    target = same.float() / same.sum(1, keepdim=True)
    return 0.5 * (
        torch.nn.functional.cross_entropy(logits, target)
        + torch.nn.functional.cross_entropy(logits.T, target.T / target.T.sum(1, keepdim=True))
    )


def tokenise(tokenizer: Any, text: list[str]) -> dict[str, torch.Tensor]:
    """Tokens padded to the tokenizer's length, as ``AudioLDM2Pipeline`` asks for them."""
    batch = tokenizer(
        text,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}


def embed_text(clap: Any, tokenizer: Any, text: list[str]) -> torch.Tensor:
    """Unit text embeddings ``(batch, 128)``."""
    out = clap.get_text_features(**tokenise(tokenizer, text))
    return getattr(out, "pooler_output", out)


def embed_audio(clap: Any, features: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Unit audio embeddings ``(batch, 128)``."""
    features = torch.from_numpy(np.array(features, np.float32))
    out = clap.get_audio_features(
        input_features=features, is_longer=torch.zeros(len(features), 1, dtype=torch.bool)
    )
    return getattr(out, "pooler_output", out)


def retrieval(
    text: torch.Tensor, audio: torch.Tensor, captions: list[str], at: int = 10
) -> dict[str, float]:
    """Caption-to-audio recall at ``at``: is the caption's own clip among the nearest?

    Clips with the very same caption cannot be told apart by it, so any of them counts;
    chance is then the exact probability that a random ranking finds one.
    """
    from math import comb

    order = (text @ audio.T).argsort(dim=1, descending=True)
    n, rank = len(captions), order[:, :at].tolist()
    places = (order == torch.arange(n)[:, None]).int().argmax(1).float()
    own = [row in nearest for row, nearest in enumerate(rank)]
    any_equal = [
        any(captions[other] == captions[row] for other in nearest)
        for row, nearest in enumerate(rank)
    ]
    counts = [captions.count(caption) for caption in captions]
    chance = np.mean([1 - comb(n - count, at) / comb(n, at) for count in counts])
    return {
        f"recall_at_{at}": float(np.mean(own)),
        "over_chance": float(np.mean(own)) / (at / n),
        "mean_place": float((places / (n - 1)).mean()),  # 0.5 by chance; no steps, unlike recall
        f"equal_caption_recall_at_{at}": float(np.mean(any_equal)),
        "equal_caption_over_chance": float(np.mean(any_equal) / chance),
    }


def _varied(features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other recordings of the same sounds: features ``(batch, 1, frames, 64)`` in dB, in place.

    Any start and level, another speed and pitch (on the mel axis a shift), another room and
    microphone (a smooth response), another clip far behind, masked bands and moments.
    """
    frames, bands = features.shape[2:]
    others = features[rng.permutation(len(features))].copy()
    places = np.linspace(0, 1, bands)
    for row, behind in zip(features[:, 0], others[:, 0], strict=True):
        speed = np.exp(rng.uniform(-0.3, 0.3))
        at = (np.arange(frames) * speed + rng.integers(frames)).astype(int) % frames
        row[:] = np.roll(row[at], rng.integers(-3, 4), axis=1)
        if rng.random() < 0.5:
            down = 10 ** (rng.uniform(-25, -6) / 10)
            power = 10 ** (row / 10) + down * 10 ** (np.roll(behind, frames // 3, 0) / 10)
            row[:] = 10 * np.log10(power)
        bends = rng.normal(0, 4, 4)[:, None] * np.cos(np.pi * np.arange(1, 5)[:, None] * places)
        row += bends.sum(0) + rng.uniform(-10, 5)
        for _ in range(2):
            band, moment, mean = rng.integers(0, 56), rng.integers(0, frames - 200), row.mean()
            row[:, band : band + rng.integers(0, 9)] = mean
            row[moment : moment + rng.integers(0, 150)] = mean
    return features


def train_clap(
    data: str | Path,
    folder: str | Path,
    budget: float,
    seed: int = 0,
    device: str = "cpu",
    start: str | Path | None = None,
    learning_rate: float = 1e-3,
) -> torch.nn.Module:
    """Train the tokenizer and the model; saves ``text_encoder``, ``tokenizer``, extractor.

    A second head, thrown away after training, tells the class from the audio embedding: most
    captions of a class say the same, and what tells classes apart is what retrieval needs first.

    Args:
        start: checkpoint folder to begin from. Its text branch and tokenizer stay as they
            are, since its UNet was trained on those embeddings; the audio branch goes on.
    """
    folder = Path(folder)
    corpus = load_corpus(data)
    tokenizer, clap = _begin(corpus, start, seed)
    tokenizer.save_pretrained(folder / "tokenizer")
    feature_extractor().save_pretrained(folder / "feature_extractor")
    features = audio_features(corpus, default_cache())
    clap.to(device)
    captions, categories = corpus.table["caption"].tolist(), corpus.table["class"].to_numpy()
    names, numbers = np.unique(categories, return_inverse=True)
    head = torch.nn.Linear(EMBEDDING, len(names)).to(device)
    # Rare classes are drawn more often, not equally: a class of one clip would be memorised.
    frequency = corpus.table["class"].map(corpus.table["class"].value_counts()).to_numpy(float)
    weights = np.where(corpus.held, 0.0, frequency**-0.5)

    def loss(rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        clips = rng.choice(len(corpus), size=BATCH, p=weights / weights.sum(), replace=False)
        text = [augment(captions[clip], categories[clip], rng) for clip in clips]
        batch = torch.from_numpy(_varied(np.asarray(features[clips], np.float32), rng))
        said = np.array([captions[clip] for clip in clips])
        same = (said[:, None] == said) | (
            (categories[clips][:, None] == categories[clips]) & (rng.random() < 0.5)
        )
        with mixed_precision(device):
            words = embed_text(clap, tokenizer, text)
            sounds = embed_audio(clap, batch)
        scale = clap.logit_scale_a.exp().clamp(max=50)
        value = contrastive_loss(
            words.float(), sounds.float(), scale, torch.from_numpy(same).to(device)
        )
        classes = torch.nn.functional.cross_entropy(
            10 * head(sounds.float()),
            torch.from_numpy(numbers[clips]).to(device),
            label_smoothing=0.1,
        )
        return value + 0.5 * classes, {"contrastive": value.item(), "class": classes.item()}

    def evaluate(average: dict[str, torch.nn.Module]) -> dict[str, float]:
        clips = np.flatnonzero(corpus.held)
        said = [captions[clip] for clip in clips]
        text = embed_text(average["clap"], tokenizer, said)
        return retrieval(text, embed_audio(average["clap"], features[clips]), said)

    trainer = Trainer(
        "clap",
        {"clap": clap, "head": head},
        loss,
        folder,
        budget,
        learning_rate=learning_rate,
        seed=seed,
        evaluate=evaluate,
        decay=0.995,
        weight_decay=0.05,
    )
    average = trainer.run()["clap"].cpu()
    average.save_pretrained(folder / "text_encoder", safe_serialization=True)
    return average


def _begin(corpus: Corpus, start: str | Path | None, seed: int) -> tuple[Any, torch.nn.Module]:
    """Tokenizer and model: new ones, or those of a checkpoint with its text branch frozen."""
    torch.manual_seed(seed)
    if not start:
        tokenizer = roberta_tokenizer(vocabulary_text(corpus.table))
        return tokenizer, build_clap(len(tokenizer), tokenizer.model_max_length)
    from transformers import ClapModel, RobertaTokenizer

    clap = ClapModel.from_pretrained(Path(start) / "text_encoder", torch_dtype=torch.float32)
    for part in (clap.text_model, clap.text_projection):
        part.requires_grad_(False)
    return RobertaTokenizer.from_pretrained(Path(start) / "tokenizer"), clap
