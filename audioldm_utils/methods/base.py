"""What every reconstruction method gets and gives.

A method is a function ``f(job, *, option=default, ...) -> Output``. Its keyword options, with
their types and defaults, are the options that the registry, the command line and the
notebooks show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.clips import Clip, to_model_rate
from audioldm_utils.audio.signals import SILENCE, Gain, fit_length, normalise
from audioldm_utils.errors import UserError
from audioldm_utils.methods.enhance.bands import (
    Compensation,
    compensation_path,
    identity_compensation,
    load_compensation,
)
from audioldm_utils.model.networks import Networks


@dataclass(frozen=True)
class Output:
    """What a method makes of a clip, still in the model's own scaling.

    Attributes:
        waveform: ``(samples,)`` float32 at ``sample_rate``, as long as the input there.
        sample_rate: 16000, or the clip's own where the band was extended.
        latents: ``(1, 8, frames / 4, 16)`` that the waveform was decoded from, scaled.
        side_bits: bits that a decoder needs beside the latents; for the codec methods, which
            send no latents, all bits.
        details: curves and figures of the method's own.
        oracle: whether the decoder was given the original, so that it is no method.
    """

    waveform: np.ndarray
    sample_rate: int
    latents: torch.Tensor
    side_bits: int = 0
    details: dict[str, Any] = field(default_factory=dict)
    oracle: bool = False


@dataclass
class Job:
    """One clip on its way through a method.

    Attributes:
        seed: of all noise.
        step: told a step's number and the number of all, by methods that iterate.
        refined: latents and curve of a refinement, by its settings.
    """

    clip: Clip
    networks: Networks
    seed: int = 0
    step: Callable[[int, int], None] = lambda done, total: None
    refined: dict[tuple, tuple[torch.Tensor, np.ndarray]] = field(default_factory=dict)

    def text(self, prompt: str) -> str:
        """The prompt that an option means: ``caption``, ``none``, or a text."""
        text = self.clip.caption or "" if prompt == "caption" else prompt
        return "" if text == "none" else text

    @cached_property
    def _normalised(self) -> tuple[np.ndarray, Gain]:
        wave = to_model_rate(self.clip)
        mean = float(wave.mean(dtype=np.float64))
        if np.abs(wave - mean).max() < SILENCE:
            # A clip may begin with silence, which has no peak to scale: as `networks.normalise`.
            return np.zeros_like(wave), Gain(mean, 1.0)
        return normalise(wave)

    @property
    def waveform(self) -> np.ndarray:
        """The clip at 16 kHz, mean removed, peak 0.5, ``(samples,)`` float32; silence as zeros."""
        return self._normalised[0]

    @property
    def gain(self) -> Gain:
        """What the front end did to the level, to be undone at the end."""
        return self._normalised[1]

    @property
    def original(self) -> np.ndarray:
        """The clip at its own rate in the same scaling as :attr:`waveform`, float32."""
        return self.gain.apply(self.clip.samples)

    @cached_property
    def mel(self) -> torch.Tensor:
        """Its log-mel ``(1, frames, 64)``, frames a multiple of 4."""
        return self.networks.to_mel(torch.from_numpy(self.waveform)[None])

    @cached_property
    def latents(self) -> torch.Tensor:
        """The VAE's posterior mode ``(1, 8, frames / 4, 16)``, scaled."""
        return self.networks.encode(self.mel)

    def own_level(self, waveform: np.ndarray, rate: int) -> np.ndarray:
        """Undo the gain, float32; as many samples as the clip has at that rate."""
        length = len(self.clip.samples if rate == self.clip.sample_rate else self.waveform)
        return self.gain.undo(fit_length(waveform, length))

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return len(self.waveform) / MODEL_RATE

    @cached_property
    def compensation(self) -> Compensation:
        """What is fitted for this checkpoint; UserError if nothing is."""
        checkpoint = self.networks.checkpoint
        return load_compensation(checkpoint.path, checkpoint.fingerprint, self.networks.synthesis)

    @cached_property
    def statistics(self) -> Compensation:
        """For the coder of side information: the fitted ones, else plausible ones."""
        checkpoint = self.networks.checkpoint
        path = compensation_path(checkpoint.path, checkpoint.fingerprint, self.networks.synthesis)
        return self.compensation if path.exists() else identity_compensation("")

    def synthesise(self, mel: torch.Tensor) -> np.ndarray:
        """Waveform of a mel ``(1, frames, 64)``, as long as the input."""
        return self.networks.synthesise(mel, seed=self.seed)[0, : len(self.waveform)].cpu().numpy()

    def finish(self, latents: torch.Tensor, **more: Any) -> Output:
        """Decode latents plainly, as ``vae`` does."""
        waveform = self.synthesise(self.networks.decode(latents))
        return Output(waveform, MODEL_RATE, latents, **more)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse an option that is not one of its choices (UserError)."""
    if value not in choices:
        raise UserError(f"option {name} must be one of {', '.join(choices)}, not {value!r}.")
