"""The text side of AudioLDM2: prompts to embeddings, and CLAP scores.

A prompt reaches the UNet as two sequences: the T5 encoder's states, and eight states that
GPT-2 generates from the CLAP text embedding followed by the T5 states. Both are made by
diffusers' own ``AudioLDM2Pipeline.encode_prompt``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch
from torch import Tensor

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.model.checkpoint import TEXT_COMPONENTS, Checkpoint
from audioldm_utils.model.windows import window_starts

if TYPE_CHECKING:
    from diffusers import AudioLDM2Pipeline


@dataclass(frozen=True)
class Conditioning:
    """What the UNet is told about a batch of prompts."""

    generated: Tensor  # GPT-2's sequence, (batch, 8, width)
    t5: Tensor  # T5's sequence, (batch, tokens, width)
    mask: Tensor  # 1 where ``t5`` holds a token, 0 where it is padding, (batch, tokens)
    negative: Conditioning | None = None  # of the prompts that guidance leads away from

    @property
    def batch(self) -> int:
        """Number of prompts."""
        return self.t5.shape[0]

    def __getitem__(self, index: slice) -> Conditioning:
        """Some of the prompts."""
        parts = self.generated[index], self.t5[index], self.mask[index]
        return Conditioning(*parts, None if self.negative is None else self.negative[index])

    def expand(self, batch: int) -> Conditioning:
        """Repeat each prompt (a a b b) until there are ``batch``, a multiple of their number."""
        times, rest = divmod(batch, self.batch)
        if rest or times == 0:
            raise ValueError(f"{self.batch} prompts cannot be spread over a batch of {batch}")
        if times == 1:
            return self
        parts = (part.repeat_interleave(times, 0) for part in (self.generated, self.t5, self.mask))
        return Conditioning(*parts, None if self.negative is None else self.negative.expand(batch))


def stack(items: Sequence[Conditioning]) -> Conditioning:
    """Join conditionings into one batch; shorter T5 sequences are padded and masked."""
    pad, tokens = torch.nn.functional.pad, max(item.t5.shape[1] for item in items)
    missing = [tokens - item.t5.shape[1] for item in items]
    parts = (
        torch.cat([item.generated for item in items]),
        torch.cat([pad(i.t5, (0, 0, 0, more)) for i, more in zip(items, missing, strict=True)]),
        torch.cat([pad(i.mask, (0, more)) for i, more in zip(items, missing, strict=True)]),
    )
    negatives = [item.negative for item in items]
    have = all(negative is not None for negative in negatives)
    return Conditioning(*parts, stack(negatives) if have else None)


def _as_list(prompts: str | Sequence[str]) -> list[str]:
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"prompts must be a text or a sequence of texts, got {prompts!r}")
    return prompts


def _pairs(
    prompts: str | Sequence[str], negative: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Prompts and one negative each; None is the empty text."""
    prompts, negatives = _as_list(prompts), _as_list("" if negative is None else negative)
    negatives = negatives * len(prompts) if len(negatives) == 1 else negatives
    if len(negatives) != len(prompts):
        raise ValueError(f"{len(negatives)} negative prompts for {len(prompts)} prompts")
    return prompts, negatives


def _features(output: Any) -> Tensor:
    """The embedding, which transformers 4 returns bare and 5 inside an output object."""
    return output if isinstance(output, Tensor) else output.pooler_output


class _AudioPrompt(torch.nn.Module):
    """Stands in for CLAP in ``encode_prompt`` and gives an audio clip's embedding."""

    def __init__(self, embedding: Tensor) -> None:
        super().__init__()
        self.embedding = embedding
        self.config = SimpleNamespace(model_type="clap")

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The embedding, whatever the text is."""
        return self.embedding.expand(len(input_ids), -1)


class TextSide:
    """Prompts to embeddings, and CLAP, on one checkpoint's components."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @cached_property
    def pipeline(self) -> AudioLDM2Pipeline:
        """A diffusers pipeline that holds the text side only."""
        return self.checkpoint.pipeline(TEXT_COMPONENTS)

    def drop(self) -> None:
        """Unload the text encoders; they are loaded again if they are needed again."""
        self.__dict__.pop("pipeline", None)
        self.checkpoint.unload(*TEXT_COMPONENTS)

    @cached_property
    def unconditional(self) -> Conditioning:
        """Embedding of the empty prompt, without a negative."""
        return replace(self.embed(""), negative=None)

    @torch.no_grad()
    def embed(
        self,
        prompts: str | Sequence[str],
        negative: str | Sequence[str] | None = None,
        together: bool = False,
    ) -> Conditioning:
        """Embeddings of prompts and of their negatives.

        Args:
            negative: one text for all prompts or one a prompt; None is the empty text.
            together: encode all in one call, as the plain pipeline does, where an embedding
                depends on the longest of its neighbours: GPT-2 counts padding as positions.

        Raises:
            UserError: the checkpoint lacks a part of the text side.
            ValueError: the numbers of prompts and negatives differ.
        """
        prompts, negatives = _pairs(prompts, negative)
        if together:
            return self._encode(prompts, negatives)
        return stack([self._encode([p], [n]) for p, n in zip(prompts, negatives, strict=True)])

    @torch.no_grad()
    def embed_audio(
        self,
        waveform: Tensor,
        prompts: str | Sequence[str] = "",
        negative: str | Sequence[str] | None = None,
    ) -> Conditioning:
        """Embeddings of audio prompts: CLAP's audio embedding in the place of its text's.

        Args:
            waveform: ``(batch, samples)`` at 16 kHz.
            prompts: what T5 reads beside it, one for all clips or one a clip.
            negative: as in :meth:`embed`.
        """
        embeddings, prompts = self.clap_audio(waveform), _as_list(prompts)
        prompts = prompts * len(embeddings) if len(prompts) == 1 else prompts
        prompts, negatives = _pairs(prompts, negative)
        items = []
        for embedding, prompt, other in zip(embeddings, prompts, negatives, strict=True):
            pipeline = self.checkpoint.pipeline(
                TEXT_COMPONENTS, text_encoder=_AudioPrompt(embedding[None])
            )
            heard = self._encode([prompt], None, pipeline)
            items.append(replace(heard, negative=self._encode([prompt], [other]).negative))
        return stack(items)

    def _encode(
        self,
        prompts: list[str],
        negatives: list[str] | None,
        pipeline: AudioLDM2Pipeline | None = None,
    ) -> Conditioning:
        t5, mask, generated = (pipeline or self.pipeline).encode_prompt(
            prompts, self.checkpoint.device, 1, negatives is not None, negative_prompt=negatives
        )
        found = Conditioning(generated, t5, mask)
        if negatives is None:
            return found
        # The pipeline puts the negatives first.
        return replace(found[len(prompts) :], negative=found[: len(prompts)])

    @torch.no_grad()
    def clap_text(self, prompts: str | Sequence[str]) -> Tensor:
        """CLAP embeddings of texts, ``(batch, width)``, unit norm, float32 on the CPU."""
        tokenizer = self.checkpoint.part("tokenizer")
        tokens = tokenizer(
            _as_list(prompts),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).to(self.checkpoint.device)
        output = self.checkpoint.clap.get_text_features(
            tokens.input_ids, attention_mask=tokens.attention_mask
        )
        return torch.nn.functional.normalize(_features(output).float(), dim=-1).cpu()

    @torch.no_grad()
    def clap_audio(self, waveform: Tensor, sample_rate: int = MODEL_RATE) -> Tensor:
        """CLAP embeddings ``(batch, width)`` of ``(batch, samples)``, unit norm, on the CPU.

        Audio longer than the feature extractor's limit (10 s in the published checkpoint) is
        embedded in consecutive windows, the last one at the end, whose mean is taken; the
        extractor itself would crop it at random.
        """
        extractor, clap = self.checkpoint.part("feature_extractor"), self.checkpoint.clap
        rate, limit = extractor.sampling_rate, extractor.nb_max_samples
        if waveform.ndim != 2 or waveform.shape[1] == 0:
            raise ValueError(f"waveform must be (batch, samples), got {tuple(waveform.shape)}")
        # One clip after another: soxr takes channels last, and clips are no channels.
        clips = waveform.detach().cpu().float().numpy()
        audio = np.stack([soxr.resample(x, sample_rate, rate, quality="HQ") for x in clips])
        total = 0.0
        for start in window_starts(audio.shape[1], limit, 0):
            features = extractor(
                list(audio[:, start : start + limit]), sampling_rate=rate, return_tensors="pt"
            ).input_features.to(self.checkpoint.device, clap.dtype)
            # No window is longer than the limit, so no clip needs the fusion of crops.
            longer = torch.zeros(len(audio), 1, dtype=torch.bool, device=features.device)
            output = clap.get_audio_features(features, is_longer=longer)
            total = total + torch.nn.functional.normalize(_features(output).float(), dim=-1)
        return torch.nn.functional.normalize(total, dim=-1).cpu()
