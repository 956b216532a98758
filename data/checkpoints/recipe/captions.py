"""Captions: paraphrases, dropped words, mixtures, and the two tokenizers trained on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

#: How a short description may be asked for. The plain caption is by far the most frequent.
_FRAMES = (
    "{}",
    "{}",
    "{}",
    "the sound of {}",
    "a recording of {}",
    "{} in the foreground",
    "we hear {}",
)
_ARTICLES = {"a", "an", "the"}


def augment(caption: str, category: str, rng: np.random.Generator) -> str:
    """A paraphrase of ``caption``: another frame, dropped articles or words, or the class name."""
    draw = rng.random()
    if draw < 0.1:
        return category.replace("_", " ")
    if draw < 0.5:
        return caption
    words = caption.split()
    if draw < 0.7:
        words = [word for word in words if word not in _ARTICLES]
    elif draw < 0.85 and len(words) > 4:
        words = [word for word in words if rng.random() > 0.15] or words
    return str(rng.choice(_FRAMES)).format(" ".join(words))


def joined(first: str, second: str) -> str:
    """Caption of two sounds together."""
    return f"{first} and {second}"


def drawn_prompts(
    table: pd.DataFrame, classes: int = 20, each: int = 2, seed: int = 0
) -> list[tuple[str, str]]:
    """Class and caption, ``each`` different ones of the largest classes, drawn by clips."""
    rng, found = np.random.default_rng(seed), []
    for name in table["class"].value_counts().index[:classes]:
        captions = rng.permutation(table.loc[table["class"] == name, "caption"])
        found += [(name, str(text)) for text in list(dict.fromkeys(captions))[:each]]
    return found


def vocabulary_text(table: pd.DataFrame, rounds: int = 6, seed: int = 0) -> list[str]:
    """Augmented captions, for training the tokenizers."""
    rng = np.random.default_rng(seed)
    pairs = list(zip(table["caption"], table["class"], strict=True))
    text = [augment(caption, category, rng) for _ in range(rounds) for caption, category in pairs]
    return text + [
        joined(pairs[i][0], pairs[j][0]) for i, j in rng.integers(0, len(pairs), (len(pairs), 2))
    ]


def roberta_tokenizer(text: Sequence[str], max_length: int = 40, size: int = 800) -> object:
    """A byte-level BPE tokenizer of RoBERTa's kind, for the CLAP text branch."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import RobertaTokenizer

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    import json

    model = json.loads(tokenizer.to_str())["model"]
    return RobertaTokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        model_max_length=max_length,
    )


def t5_tokenizer(text: Sequence[str], max_length: int = 64, size: int = 600) -> object:
    """A Unigram tokenizer of T5's kind."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import T5Tokenizer

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        text,
        trainers.UnigramTrainer(
            vocab_size=size,
            special_tokens=["<pad>", "</s>", "<unk>"],
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    vocabulary = [tuple(entry) for entry in json.loads(tokenizer.to_str())["model"]["vocab"]]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=max_length)
