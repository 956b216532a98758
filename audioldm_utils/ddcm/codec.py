"""Waveform to ``.ddcm`` bytes and back: networks, DDCM and bitstream put together.

Encoding: 16 kHz mono, mean removed, peak to 0.5 → log-mel → latents → DDCM codes → bytes.
Decoding replays the codes and undoes the gain. A clip is always coded alone (batch 1), so that
nothing depends on its neighbours. Callbacks are called after each step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.clips import Clip, fit_length, to_model_rate
from audioldm_utils.audio.signals import Gain
from audioldm_utils.ddcm import bitstream
from audioldm_utils.ddcm.core import DDCM, Callback, Codes
from audioldm_utils.ddcm.header import (
    PLACEMENTS,
    Header,
    Sizes,
    check_paid,
    latent_frames,
    layout,
    model_samples,
    segment_frames,
    shown_window,
)
from audioldm_utils.ddcm.packing import pack, unpack
from audioldm_utils.ddcm.settings import Settings, codebook_for, header_for
from audioldm_utils.ddcm.windows import Denoiser, windowed
from audioldm_utils.errors import UserError
from audioldm_utils.model import DOWNSAMPLING
from audioldm_utils.model.checkpoint import Checkpoint
from audioldm_utils.model.conditioning import Conditioning
from audioldm_utils.model.networks import Networks, normalise
from audioldm_utils.model.schedule import Schedule


@dataclass(frozen=True)
class Encoded:
    """A clip's file ``data`` and what the encoder knows of it.

    ``codes.latents`` are what a decoder gets, (1, 8, frames, 16), and ``latents`` the input's;
    ``calls`` counts evaluations of the network, as in :class:`Decoded`.
    """

    data: bytes
    header: Header
    sizes: Sizes
    codes: Codes
    latents: torch.Tensor
    calls: int


@dataclass(frozen=True)
class Decoded:
    """What a file decodes to: ``samples`` float32 (n,) at ``sample_rate``, and its header."""

    samples: np.ndarray
    sample_rate: int
    header: Header
    sizes: Sizes
    latents: torch.Tensor
    calls: int


def encode(
    clip: Clip, checkpoint: Checkpoint | str | Path = "mini", settings: Settings = Settings()
) -> bytes:
    """A clip of any rate as the bytes of a ``.ddcm`` file; for many, keep a :class:`Codec`.

    Raises:
        UserError: as :meth:`Codec.encode`, or a checkpoint that cannot be used.
    """
    original = (len(clip.samples), clip.sample_rate)
    return Codec(Networks(checkpoint)).encode(to_model_rate(clip), settings, original=original).data


def decode(data: bytes, checkpoint: Checkpoint | str | Path = "mini") -> Decoded:
    """The sound of a ``.ddcm`` file's bytes; errors as :meth:`Codec.decode`."""
    return Codec(Networks(checkpoint)).decode(data)


class _Plan(NamedTuple):
    coder: DDCM
    header: Header
    parts: int  # segments
    frames: int  # latent frames of all segments


class Codec:
    """One checkpoint's codec. Prompts are embedded once and the text encoders then unloaded."""

    def __init__(self, networks: Networks) -> None:
        """Take the networks of the checkpoint; encoder and decoder need the same one."""
        self.networks = networks
        self._conditionings: dict[tuple[str | None, str | None], Conditioning | None] = {}

    def encode(
        self,
        waveform: np.ndarray,
        settings: Settings = Settings(),
        *,
        original: tuple[int, int] | None = None,
        callback: Callback | None = None,
        prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
        denoiser: Denoiser | None = None,
    ) -> Encoded:
        """Encode a clip.

        Args:
            waveform: float32 (n,), mono at 16 kHz, at its own level, at least 0.1 s.
            settings: rate or steps, codebook, prompt.
            original: (samples, sample rate in Hz) of the clip before resampling; kept in the
                file. Default: the waveform's own.
            prepare: what to do to the input's latents before they are coded, such as
                quantising them; ``latents`` of the result are what it gave.
            denoiser: in place of the network, to measure what that is worth; ``decode`` does
                not know it. ``calls`` is then the number of steps.

        Raises:
            UserError: the rate is too low for the clip, or a setting is out of range.
        """
        samples, rate = original or (len(waveform), MODEL_RATE)
        count = model_samples(samples, rate)
        normalised, level = normalise(torch.from_numpy(fit_length(waveform, count))[None])
        plan = self._plan(settings, samples, rate, latent_frames(count), level)
        mel = self.networks.to_mel(normalised)
        # Silence fills the last segment.
        missing = plan.frames * DOWNSAMPLING - mel.shape[1]
        silence = self.networks.mel_config.silence
        mel = torch.nn.functional.pad(mel, (0, 0, 0, missing), value=silence)
        latents = self.networks.encode(mel)
        if prepare is not None:
            latents = prepare(latents)
        return self._code(plan, latents, settings, callback, denoiser)

    def generate(
        self,
        prompt: str,
        seconds: float,
        settings: Settings = Settings(kbps=None),
        *,
        seed: int = 0,
        subset: int | None = None,
        callback: Callback | None = None,
    ) -> Encoded:
        """A sound from text, as a file that ``decode`` makes audible.

        Args:
            settings: steps, atoms, codebook, guidance; their prompt is not looked at.
            seed: of the random choices.
            subset: None stores the prompt, for a decoder that uses it. A number of
                candidates a step chooses by the prompt instead (CCFG): the file holds no
                prompt and its decoder needs none.
        """
        count = max(1, round(seconds * MODEL_RATE))
        without = replace(settings, prompt=None, negative_prompt=None, guidance=1.0)
        stored = replace(settings, prompt=prompt) if subset is None else without
        plan = self._plan(stored, count, MODEL_RATE, latent_frames(count))
        denoiser, counter = self._denoiser(plan.header)
        options, counters = {"callback": callback, "device": self.networks.device}, [counter]
        if subset is not None:
            options["towards"], other = self._denoiser(replace(plan.header, prompt=prompt))
            options["subset"] = subset
            counters.append(other)
        codes = plan.coder.generate(plan.frames, denoiser, seeds=[seed], **options)
        return _encoded(plan, codes, codes.latents, sum(counter.calls for counter in counters))

    def decode(
        self,
        data: bytes,
        name: str = "the data",
        *,
        edit: tuple[int, str] | None = None,
        callback: Callback | None = None,
    ) -> Decoded:
        """Decode a ``.ddcm`` file's bytes to a waveform at 16 kHz, at the original's level.

        Args:
            data: the whole file, called ``name`` in an error.
            edit: (step, prompt): from this step on, 0 to T, the denoiser is given this
                prompt instead, while the codes stay.

        Raises:
            UserError: damaged, foreign, of a newer major version, or of another checkpoint.
        """
        coder, codes, header, sizes = self.open(data, name)
        denoiser, counter = self._denoiser(header)
        counters, edited = [counter], None
        if edit is not None:
            other, counter = self._denoiser(replace(header, prompt=edit[1]))
            counters.append(counter)
            edited = (edit[0], other)
        latents = coder.decode(codes, denoiser, edit=edited, callback=callback)
        calls = sum(counter.calls for counter in counters)
        samples = self.waveform(latents, header, name)
        return Decoded(samples, MODEL_RATE, header, sizes, latents, calls)

    def waveform(self, latents: torch.Tensor, header: Header, name: str = "the data") -> np.ndarray:
        """Decoded latents (1, 8, frames, 16) as float32 (n,) at 16 kHz, at the file's level."""
        count = model_samples(header.samples, header.sample_rate)
        waveform = self.networks.synthesise(self.networks.decode(latents)).cpu()[:, :count]
        level = Gain(torch.tensor([[header.mean]]), torch.tensor([[1 / header.scale]]))
        return finite(level.undo(waveform), name)[0].numpy()

    def encode_latents(self, latents: torch.Tensor, settings: Settings = Settings()) -> Encoded:
        """Encode latents ``(1, 8, frames, 16)`` themselves, at a level of 1."""
        frames = latents.shape[2]
        samples = frames * DOWNSAMPLING * self.networks.mel_config.hop_length
        plan = self._plan(settings, samples, MODEL_RATE, frames)
        latents = torch.nn.functional.pad(latents, (0, 0, 0, plan.frames - frames))
        return self._code(plan, latents, settings)

    def decode_latents(self, data: bytes, name: str = "the data") -> torch.Tensor:
        """The latents of a file's bytes, without what fills its segments; errors as ``decode``."""
        coder, codes, header, _ = self.open(data, name)
        latents = finite(coder.decode(codes, self._denoiser(header)[0]), name)
        return latents[:, :, : latent_frames(model_samples(header.samples, header.sample_rate))]

    def open(self, data: bytes, name: str = "the data") -> tuple[DDCM, Codes, Header, Sizes]:
        """Coder and codes of a file, to replay with another denoiser; errors as ``decode``."""
        header, payload, sizes = bitstream.from_bytes(data, name)
        checkpoint = self.networks.checkpoint
        bitstream.check_checkpoint(header, checkpoint.fingerprint, name, checkpoint.name)
        parts, part = layout(header)
        try:
            coder = coder_for(self.networks, header, part)
            codes = _codes(coder, payload, parts, self.networks.device)
        except UserError as error:
            raise UserError(f"{name} cannot be decoded: {error}") from error
        except ValueError as error:
            raise UserError(f"{name} cannot be decoded: {error}; encode it again") from error
        return coder, codes, header, sizes

    def _plan(
        self, settings: Settings, samples: int, rate: int, frames: int, level: Gain = Gain(0, 1)
    ) -> _Plan:
        parts, part = segment_frames(frames, settings.segment)
        header = header_for(self.networks, settings, samples, rate, level, parts, part)
        return _Plan(coder_for(self.networks, header, part), header, parts, parts * part)

    def _code(
        self,
        plan: _Plan,
        latents: torch.Tensor,
        settings: Settings,
        callback: Callback | None = None,
        denoiser: Denoiser | None = None,
    ) -> Encoded:
        counter = None
        if denoiser is None:
            denoiser, counter = self._denoiser(plan.header)
        codes = plan.coder.encode(latents, denoiser, callback=callback, **settings.selection)
        return _encoded(plan, codes, latents, counter.calls if counter else plan.header.steps)

    def _denoiser(self, header: Header) -> tuple[Denoiser, Any]:
        """The denoiser that the header asks for, and what counts its calls."""
        key = (header.prompt, header.negative_prompt)
        if key not in self._conditionings:
            some = key != (None, None)
            self._conditionings[key] = self.networks.embed(key[0] or "", key[1]) if some else None
        denoiser = self.networks.denoiser(self._conditionings[key], header.guidance)
        self.networks.drop_text()
        return windowed(denoiser, *shown_window(header)), denoiser


def finite(values: torch.Tensor, name: str) -> torch.Tensor:
    """The values; UserError unless all are finite, which huge guidance or broken weights undo."""
    if not bool(torch.isfinite(values).all()):
        raise UserError(
            f"{name} does not decode to finite values; encode it again with less guidance"
        )
    return values


def coder_for(networks: Networks, header: Header, part: int) -> DDCM:
    """The coder that a header names, for segments of ``part`` latent frames."""
    schedule = Schedule.from_config(
        networks.checkpoint.scheduler_config,
        header.steps,
        placement=header.placement if header.timesteps is None else header.timesteps,
        eta=header.eta,
        **dict(zip(PLACEMENTS[header.placement], header.parameters, strict=True)),
    )
    book = codebook_for(networks, header, part)
    if header.codebook == "k-means" and book.size != header.size:
        raise ValueError(f"its codebook has {header.size} atoms, the fitted one {book.size}")
    return DDCM(schedule, book, header.atom_counts)


def _encoded(plan: _Plan, codes: Codes, latents: torch.Tensor, calls: int) -> Encoded:
    payload = pack(_digits(plan.coder, codes), _radices(plan.coder, plan.parts))
    try:
        check_paid(plan.header, len(payload))
    except ValueError as error:
        raise UserError(f"no file is made: {error}; give the steps more atoms") from error
    data = bitstream.to_bytes(plan.header, payload)
    header, _, sizes = bitstream.from_bytes(data)
    return Encoded(data, header, sizes, codes, latents, calls)


def _radices(coder: DDCM, parts: int) -> list[int]:
    """States of each code, step by step and within a step segment by segment."""
    return [states for a in coder.atoms if a for states in [coder.codebook.states(a)] * parts]


def _digits(coder: DDCM, codes: Codes) -> list[int]:
    return [
        coder.codebook.to_integer(row, atoms)
        for choice, atoms in zip(codes.choices, coder.atoms, strict=True)
        if atoms
        for row in choice.tolist()
    ]


def _codes(coder: DDCM, payload: bytes, parts: int, device: torch.device) -> Codes:
    values = iter(unpack(payload, _radices(coder, parts)))
    book, choices = coder.codebook, []
    free = (0,) * book.length(1)
    for atoms in coder.atoms:
        rows = [book.from_integer(next(values), atoms) if atoms else free for _ in range(parts)]
        choices.append(torch.tensor(rows, dtype=torch.int64))
    channels, part, width = book.shape
    shape = (channels, parts * part, width)
    return Codes(tuple(choices), shape, torch.zeros(1, *shape, device=device))
