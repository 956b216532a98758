"""A small CLAP: caption and audio embeddings trained contrastively (arXiv 2211.06687)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from recipe.captions import augment, roberta_tokenizer, vocabulary_text
from recipe.data import Corpus, default_cache, load_corpus
from recipe.loop import Trainer, mixed_precision

EMBEDDING = 128


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

    rank = (text @ audio.T).argsort(dim=1, descending=True)[:, :at].tolist()
    n = len(captions)
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
        f"equal_caption_recall_at_{at}": float(np.mean(any_equal)),
        "equal_caption_over_chance": float(np.mean(any_equal) / chance),
    }


def train_clap(
    data: str | Path,
    folder: str | Path,
    budget: float,
    seed: int = 0,
    device: str = "cpu",
    start: str | Path | None = None,
    learning_rate: float = 1.5e-3,
) -> torch.nn.Module:
    """Train the tokenizer and the model; saves ``text_encoder``, ``tokenizer``, extractor.

    Args:
        start: checkpoint folder to begin from. Its text branch and tokenizer stay as they
            are, since its UNet was trained on those embeddings; the audio branch goes on.
    """
    folder = Path(folder)
    corpus, held_out = load_corpus(data), load_corpus(data, "eval")
    if start:
        from transformers import RobertaTokenizer

        tokenizer = RobertaTokenizer.from_pretrained(Path(start) / "tokenizer")
    else:
        tokenizer = roberta_tokenizer(vocabulary_text(corpus.table))
    tokenizer.save_pretrained(folder / "tokenizer")
    feature_extractor().save_pretrained(folder / "feature_extractor")
    features = audio_features(corpus, default_cache())
    eval_features = audio_features(held_out, default_cache())
    torch.manual_seed(seed)
    if start:
        from transformers import ClapModel

        clap = ClapModel.from_pretrained(Path(start) / "text_encoder", torch_dtype=torch.float32)
        for part in (clap.text_model, clap.text_projection):
            part.requires_grad_(False)
    else:
        clap = build_clap(len(tokenizer), tokenizer.model_max_length)
    clap.to(device)
    captions, categories = corpus.table["caption"].tolist(), corpus.table["class"].to_numpy()
    # Rare classes are drawn more often, not equally: a class of one clip would be memorised.
    frequency = corpus.table["class"].map(corpus.table["class"].value_counts()).to_numpy(float)
    weights = frequency**-0.5

    def loss(rng: np.random.Generator, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        clips = rng.choice(len(corpus), size=32, p=weights / weights.sum(), replace=False)
        text = [augment(captions[clip], categories[clip], rng) for clip in clips]
        batch = np.asarray(features[clips], np.float32)
        for row in batch:  # any start, any level, masked bands and moments
            row[0] = np.roll(row[0], rng.integers(row.shape[1]), axis=0) + rng.uniform(-10, 5)
            band, moment = rng.integers(0, 56), rng.integers(0, 800)
            row[0, :, band : band + rng.integers(0, 9)] = row.mean()
            row[0, moment : moment + rng.integers(0, 150)] = row.mean()
        names = np.array([captions[clip] for clip in clips])
        same = (names[:, None] == names) | (
            (categories[clips][:, None] == categories[clips]) & (rng.random() < 0.5)
        )
        with mixed_precision(device):
            words = embed_text(clap, tokenizer, text)
            sounds = embed_audio(clap, batch)
        scale = clap.logit_scale_a.exp().clamp(max=50)
        value = contrastive_loss(words.float(), sounds.float(), scale, torch.from_numpy(same))
        return value, {"contrastive": value.item()}

    def evaluate(average: dict[str, torch.nn.Module]) -> dict[str, float]:
        names = held_out.table["caption"].tolist()
        return retrieval(
            embed_text(average["clap"], tokenizer, names),
            embed_audio(average["clap"], eval_features),
            names,
        )

    trainer = Trainer(
        "clap",
        {"clap": clap},
        loss,
        folder,
        budget,
        learning_rate=learning_rate,
        seed=seed,
        evaluate=evaluate,
        evaluate_every=180,
        decay=0.995,
        weight_decay=0.02,
    )
    average = trainer.run()["clap"].cpu()
    average.save_pretrained(folder / "text_encoder", safe_serialization=True)
    (folder / "clap.json").write_text(json.dumps(evaluate({"clap": average}), indent=1))
    return average


if __name__ == "__main__":
    import sys

    torch.set_num_threads(1)
    train_clap(sys.argv[1], sys.argv[2], float(sys.argv[3]))
