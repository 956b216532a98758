"""The networks of AudioLDM2: waveform to log-mel to latents and back, prompts to a denoiser.

Shapes: waveform ``(batch, samples)`` at 16 kHz; log-mel ``(batch, frames, 64)``; latents
``(batch, 8, frames / 4, 16)``, multiplied by the VAE's ``scaling_factor``. Everything runs
without gradients unless a name ends in ``_grad``, and audio longer than ``window`` frames goes
through in overlapping windows, so that memory stays flat.

Definition: haoheliu/AudioLDM2 (arXiv 2308.05734) and diffusers' ``AudioLDM2Pipeline``.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from audioldm_utils.audio.signals import Gain
from audioldm_utils.model import DOWNSAMPLING
from audioldm_utils.model.checkpoint import Checkpoint, load
from audioldm_utils.model.conditioning import Conditioning, TextSide
from audioldm_utils.model.denoiser import GuidedUNet
from audioldm_utils.model.mel import log_mel
from audioldm_utils.model.synthesis import check_synthesis, chosen, synthesise
from audioldm_utils.model.windows import crossfade, window_starts

#: Peak that the front end scales a waveform to.
PEAK = 0.5
#: Hops on each side that a mel frame depends on: three reach past the 432 samples that a frame's
#: window takes from its neighbours.
MEL_CONTEXT = 3
_MEL_BLOCK = 4096


def normalise(waveform: Tensor) -> tuple[Tensor, Gain]:
    """Subtract each clip's mean and scale its peak to 0.5; silence is left as it is.

    For a batch ``(clips, samples)`` what ``audio.signals.normalise`` is for one clip; mean and
    scale of the gain are ``(clips, 1)``.
    """
    mean = waveform.mean(dim=1, keepdim=True)
    peak = (waveform - mean).abs().amax(dim=1, keepdim=True)
    scale = torch.where(peak > 0, PEAK / peak.clamp(min=1e-30), torch.ones_like(peak))
    gain = Gain(mean, scale)
    return gain.apply(waveform), gain


class Networks:
    """The networks of one checkpoint, as functions of tensors.

    For prompts it has what :class:`~audioldm_utils.model.conditioning.TextSide` has.

    Attributes:
        window: mel frames that VAE and vocoder see at once, a multiple of 4; None for no
            limit. Published training used 1024 (10.24 s). The VAE's normalisation and attention
            see the whole window, so this changes the result of longer audio; the vocoder's
            windows change nothing but rounding.
        overlap: frames over which neighbouring windows are cross-faded, a multiple of 4.
        device: where the networks run.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | str | Path = "mini",
        window: int | None = 1024,
        overlap: int = 128,
        synthesis: str = "auto",
    ) -> None:
        self.checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else load(checkpoint)
        if window is not None and (window % DOWNSAMPLING or overlap % DOWNSAMPLING):
            raise ValueError(f"window and overlap must be multiples of 4, got {window}, {overlap}")
        if window is not None and not 0 <= overlap < window:
            raise ValueError(f"overlap must be from 0 to below window={window}, got {overlap}")
        self.window, self.overlap = window, overlap
        self.mel_config, self.device = self.checkpoint.mel_config, self.checkpoint.device
        self.text = text = TextSide(self.checkpoint)
        self.embed, self.embed_audio = text.embed, text.embed_audio
        self.clap_text, self.clap_audio, self.drop_text = text.clap_text, text.clap_audio, text.drop
        check_synthesis(synthesis)
        self._synthesis = synthesis

    @cached_property
    def synthesis(self) -> str:
        """What :meth:`synthesise` makes sound by: ``vocoder``, ``griffin-lim`` or ``inverse``."""
        return chosen(self._synthesis, self.checkpoint)

    def _windows(self, frames: int, scale: int = 1) -> list[slice]:
        """Windows over so many frames, each of ``scale`` mel frames."""
        window, overlap = frames, 0
        if self.window:
            window, overlap = self.window // scale, self.overlap // scale
        return [slice(start, start + window) for start in window_starts(frames, window, overlap)]

    @torch.no_grad()
    def to_mel(self, waveform: Tensor) -> Tensor:
        """Log-mel ``(batch, frames, 64)`` of a normalised waveform ``(batch, samples)``.

        In the training framing; ``frames`` covers every sample (the last hop is filled with
        zeros) and is a multiple of 4 (filled with silence, ln 1e-5, never with 0).
        """
        if waveform.ndim != 2 or waveform.shape[1] == 0:
            raise ValueError(f"waveform must be (batch, samples), got {tuple(waveform.shape)}")
        hop = self.mel_config.hop_length
        # The front end reflects 432 samples, so it needs three hops at least.
        frames = max(math.ceil(waveform.shape[1] / hop), MEL_CONTEXT)
        waveform = waveform.to(self.device, torch.float32)
        waveform = torch.nn.functional.pad(waveform, (0, frames * hop - waveform.shape[1]))
        blocks = []
        for start in range(0, frames, _MEL_BLOCK):
            first = max(0, start - MEL_CONTEXT)
            last = min(frames, start + _MEL_BLOCK + MEL_CONTEXT)
            block = log_mel(waveform[:, first * hop : last * hop], self.mel_config)
            blocks.append(block[:, start - first : start - first + _MEL_BLOCK])
        return self.pad_mel(torch.cat(blocks, dim=1)[:, :frames])

    def pad_mel(self, mel: Tensor) -> Tensor:
        """Append silent frames until their number is a multiple of 4."""
        missing = -mel.shape[1] % DOWNSAMPLING
        return torch.nn.functional.pad(mel, (0, 0, 0, missing), value=self.mel_config.silence)

    @torch.no_grad()
    def encode(self, mel: Tensor) -> Tensor:
        """Posterior mode of the VAE, scaled: ``(batch, 8, frames / 4, 16)``, float32.

        Of a log-mel ``(batch, frames, 64)``, frames a multiple of 4 (see :meth:`pad_mel`).
        """
        if mel.ndim != 3 or mel.shape[1] % DOWNSAMPLING or mel.shape[2] != self.mel_config.n_mels:
            raise ValueError(
                f"mel must be (batch, frames, {self.mel_config.n_mels}) with frames a multiple of"
                f" {DOWNSAMPLING}, got {tuple(mel.shape)}"
            )
        vae, frames = self.checkpoint.vae, mel.shape[1]
        given, factor = mel[:, None].to(self.device, vae.dtype), self.checkpoint.scaling_factor
        pieces = (
            (window.start // DOWNSAMPLING, vae.encode(given[:, :, window]).float() * factor)
            for window in self._windows(frames)
        )
        return crossfade(pieces, frames // DOWNSAMPLING, self.overlap // DOWNSAMPLING, dim=2)

    def decode_grad(self, latents: Tensor) -> Tensor:
        """As :meth:`decode`, differentiable with respect to the latents."""
        if latents.ndim != 4 or latents.shape[1] != 8 or latents.shape[3] != 16:
            raise ValueError(f"latents must be (batch, 8, frames, 16), got {tuple(latents.shape)}")
        vae, length = self.checkpoint.vae, latents.shape[2]
        # Multiplied by the reciprocal, as the plain pipeline does, so that roundings agree.
        scaled = latents.to(self.device, torch.float32) * (1 / self.checkpoint.scaling_factor)
        scaled = scaled.to(vae.dtype)
        pieces = (
            (window.start * DOWNSAMPLING, vae.decode(scaled[:, :, window])[:, 0].float())
            for window in self._windows(length, DOWNSAMPLING)
        )
        return crossfade(pieces, length * DOWNSAMPLING, self.overlap, dim=1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Log-mel ``(batch, 4 * frames, 64)`` of scaled latents ``(batch, 8, frames, 16)``."""
        return self.decode_grad(latents)

    @cached_property
    def lead(self) -> int:
        """Samples by which the vocoder's output lags its input.

        A transposed convolution whose kernel exceeds its rate by an odd number puts each
        input half a sample late at its own rate. In the published geometry (kernel 16 at
        rate 5, 32-fold after it) the output is 32 samples longer than 160 a frame, and 16 of
        them lead.
        """
        config = self.checkpoint.vocoder.config
        lag, later = 0.0, math.prod(config.upsample_rates)
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            later //= rate
            lag += ((kernel - rate) % 2) / 2 * later
        return round(lag)

    @property
    def vocoder_context(self) -> int:
        """Mel frames on each side that one output sample of the vocoder depends on."""
        config = self.checkpoint.vocoder.config
        # Kernel 7 before and after, at the lowest and the highest rate.
        reach, rate = 3.0, 1
        for factor, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            reach += kernel / factor / rate
            rate *= factor
            blocks = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
            reach += (
                max((size - 1) / 2 * (sum(steps) + len(steps)) for size, steps in blocks) / rate
            )
        return math.ceil(reach + 3 / rate)

    def vocode_grad(self, mel: Tensor, align: bool = True) -> Tensor:
        """As :meth:`vocode`, differentiable with respect to the mel, in one pass."""
        vocoder = self.checkpoint.vocoder
        waveform = vocoder(mel.to(self.device, vocoder.dtype)).float()
        lead = self.lead if align else 0
        return waveform[:, lead : lead + mel.shape[1] * self.mel_config.hop_length]

    @torch.no_grad()
    def vocode(self, mel: Tensor, align: bool = True) -> Tensor:
        """Waveform ``(batch, 160 * frames)`` of a log-mel ``(batch, frames, 64)``.

        Windows with enough context on both sides give what one pass gives. ``align`` cuts the
        fixed lag (:attr:`lead`) from the start, which the plain pipeline does not.
        """
        if mel.ndim != 3 or mel.shape[2] != self.mel_config.n_mels:
            raise ValueError(f"mel must be (batch, frames, 64), got {tuple(mel.shape)}")
        frames, hop = mel.shape[1], self.mel_config.hop_length
        if self.window is None or frames <= self.window:
            return self.vocode_grad(mel, align)
        context = self.vocoder_context
        blocks = []
        for start in range(0, frames, self.window):
            first, last = max(0, start - context), min(frames, start + self.window + context)
            block = self.vocode_grad(mel[:, first:last], align)
            blocks.append(block[:, (start - first) * hop :][:, : self.window * hop])
        return torch.cat(blocks, dim=1)

    @torch.no_grad()
    def synthesise(self, mel: Tensor, align: bool = True, seed: int = 0) -> Tensor:
        """As :meth:`vocode`, by :attr:`synthesis`.

        All but the vocoder have no lag to cut, and begin from a phase that ``seed`` draws.
        """
        if self.synthesis == "vocoder":
            return self.vocode(mel, align)
        return synthesise(mel, self.synthesis, seed=seed)

    @torch.no_grad()
    def reconstruct_vae(self, waveform: Tensor) -> Tensor:
        """A waveform ``(batch, samples)`` through mel, VAE and back, at its level; on the CPU."""
        normalised, gain = normalise(waveform)
        decoded = self.synthesise(self.decode(self.encode(self.to_mel(normalised))))
        return gain.undo(decoded.cpu())[:, : waveform.shape[1]]

    def denoiser(
        self, conditioning: Conditioning | None = None, guidance: float = 1.0, grad: bool = False
    ) -> GuidedUNet:
        """The network's output as a function of ``(x_t, t)``.

        Args:
            conditioning: of one prompt for any batch, or one a clip; None is the empty prompt.
            guidance: of ``uncond + guidance * (cond - uncond)``; 1 is none and costs half.
            grad: make it differentiable with respect to ``x_t``.
        """
        if conditioning is None:
            conditioning = self.text.unconditional
        return GuidedUNet(self.checkpoint.unet, conditioning, guidance, grad)
