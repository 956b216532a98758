"""Waveform to ``.ddcm`` bytes and back: stages, DDCM and bitstream put together.

Encoding: 16 kHz mono, mean removed, peak to 0.5 → log-mel → latents → DDCM codes → bytes.
Decoding replays the codes and undoes the gain. A clip is always coded alone (batch 1), so
that its bytes and its decoded latents do not depend on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from audioldm_utils import bitstream
from audioldm_utils.bitstream import Header, Sizes
from audioldm_utils.ddcm.core import DDCM, Callback, Codes
from audioldm_utils.ddcm.settings import (
    OVERLAP,
    SEGMENT,
    Settings,
    codebook_for,
    header_for,
)
from audioldm_utils.ddcm.windows import Denoiser, segment_frames, windowed
from audioldm_utils.errors import UserError
from audioldm_utils.schedule import Schedule
from audioldm_utils.stages import DOWNSAMPLING, Level, Stages, normalise

MODEL_RATE = 16000


@dataclass(frozen=True)
class Encoded:
    """A clip's file and what the encoder knows of it.

    Attributes:
        data: the ``.ddcm`` file.
        header: configuration.
        sizes: where the bytes went.
        codes: the choices; ``codes.latents`` are what a decoder gets, (1, 8, frames, 16).
        latents: of the input, same shape.
        calls: evaluations of the network.
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


def model_samples(samples: int, sample_rate: int) -> int:
    """Samples at the model's rate of a clip of ``samples`` at ``sample_rate`` Hz."""
    return max(1, round(samples * MODEL_RATE / sample_rate))


def latent_frames(samples: int) -> int:
    """Latent frames of a clip of ``samples`` at 16 kHz, before segments are filled."""
    return math.ceil(math.ceil(samples / 160) / DOWNSAMPLING)


def encode(
    stages: Stages,
    waveform: np.ndarray,
    settings: Settings = Settings(),
    *,
    original: tuple[int, int] | None = None,
    callback: Callback | None = None,
    prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Encoded:
    """Encode a clip.

    Args:
        stages: of the checkpoint; the decoder needs the same.
        waveform: float32 (n,), mono at 16 kHz, at its own level, at least 0.1 s.
        settings: rate or steps, codebook, prompt.
        original: (samples, sample rate in Hz) of the clip before resampling; kept in the
            file. Default: the waveform's own.
        callback: called after each step.
        prepare: what to do to the input's latents before they are coded, such as quantising
            them; ``latents`` of the result are what it gave.

    Raises:
        UserError: the rate is too low for the clip, or a setting is out of range.
    """
    samples, rate = original or (len(waveform), MODEL_RATE)
    count = model_samples(samples, rate)
    fitted = np.zeros(count, np.float32)
    fitted[: min(count, len(waveform))] = waveform[:count]
    normalised, level = normalise(torch.from_numpy(fitted)[None])
    parts, part = segment_frames(latent_frames(count), settings.segment)
    header = header_for(stages, settings, samples, rate, level, parts, part)
    latents = stages.encode(_fill(stages, stages.to_mel(normalised), parts * part))
    if prepare is not None:
        latents = prepare(latents)
    coder = _coder(stages, header, part)
    denoiser, counter = _denoiser(stages, header)
    codes = coder.encode(latents, denoiser, callback=callback, **settings.selection)
    payload = bitstream.pack(*_digits(coder, codes, parts))
    data = bitstream.to_bytes(header, payload)
    header, _, sizes = bitstream.from_bytes(data)
    return Encoded(data, header, sizes, codes, latents, counter.calls)


def decode(
    stages: Stages,
    data: bytes,
    name: str = "the data",
    *,
    callback: Callback | None = None,
) -> Decoded:
    """Decode a ``.ddcm`` file's bytes to a waveform at 16 kHz, at the original's level.

    Args:
        stages: of the checkpoint that encoded it.
        data: the whole file.
        name: what to call it in an error.
        callback: called after each step.

    Raises:
        UserError: damaged, foreign, of a newer major version, or of another checkpoint.
    """
    header, payload, sizes = bitstream.from_bytes(data, name)
    checkpoint = stages.checkpoint
    bitstream.check_checkpoint(header, checkpoint.fingerprint, name, checkpoint.name)
    count = model_samples(header.samples, header.sample_rate)
    parts, part = segment_frames(latent_frames(count), header.segment or SEGMENT)
    coder = _coder(stages, header, part)
    try:
        codes = _codes(coder, payload, parts)
    except ValueError as error:
        raise UserError(f"{name} cannot be decoded: {error}; encode it again") from error
    denoiser, counter = _denoiser(stages, header)
    start = coder.start(1, codes.shape).to(stages.device)
    latents = coder.decode(codes, denoiser, start=start, callback=callback)
    waveform = stages.vocode(stages.decode(latents)).cpu()[:, :count]
    level = Level(torch.tensor([[header.mean]]), torch.tensor([[1 / header.scale]]))
    samples = level.undo(waveform)[0].numpy()
    return Decoded(samples, MODEL_RATE, header, sizes, latents, counter.calls)


# --- shared by both sides ---------------------------------------------------------------


def _coder(stages: Stages, header: Header, part: int) -> DDCM:
    parameters = dict(zip(bitstream.PLACEMENTS[header.placement], header.parameters, strict=True))
    schedule = Schedule.from_config(
        stages.checkpoint.scheduler_config,
        header.steps,
        placement=header.placement if header.timesteps is None else header.timesteps,
        eta=header.eta,
        **parameters,
    )
    return DDCM(schedule, codebook_for(stages, header, part), header.atom_counts)


def _denoiser(stages: Stages, header: Header) -> tuple[Denoiser, Any]:
    """The denoiser that the header asks for, and what counts its calls."""
    conditioning = None
    if header.prompt is not None or header.negative_prompt is not None:
        conditioning = stages.embed(header.prompt or "", header.negative_prompt)
    denoiser = stages.denoiser(conditioning, header.guidance)
    stages.drop_text()
    if header.window == (0, 0):
        return windowed(denoiser, SEGMENT, OVERLAP), denoiser
    return windowed(denoiser, *header.window), denoiser


def _fill(stages: Stages, mel: torch.Tensor, frames: int) -> torch.Tensor:
    """Append silence until the mel has ``frames`` latent frames."""
    missing = frames * DOWNSAMPLING - mel.shape[1]
    return torch.nn.functional.pad(mel, (0, 0, 0, missing), value=stages.mel_config.silence)


def _digits(coder: DDCM, codes: Codes, parts: int) -> tuple[list[int], list[int]]:
    """Codes and radices, step by step and within a step segment by segment."""
    values: list[int] = []
    radices: list[int] = []
    for choice, atoms in zip(codes.choices, coder.atoms, strict=True):
        if atoms:
            values += [coder.codebook.to_integer(row, atoms) for row in choice.tolist()]
            radices += [coder.codebook.states(atoms)] * parts
    return values, radices


def _codes(coder: DDCM, payload: bytes, parts: int) -> Codes:
    radices = [coder.codebook.states(atoms) for atoms in coder.atoms if atoms for _ in range(parts)]
    values = iter(bitstream.unpack(payload, radices))
    choices = []
    for atoms in coder.atoms:
        rows = [
            coder.codebook.from_integer(next(values), atoms)
            if atoms
            else (0,) * coder.codebook.length(1)
            for _ in range(parts)
        ]
        choices.append(torch.tensor(rows, dtype=torch.int64))
    channels, part, width = coder.codebook.shape
    shape = (channels, parts * part, width)
    return Codes(tuple(choices), shape, torch.zeros(1, *shape))
