"""How much sound and how much of the network's time a ``.ddcm`` header asks for.

A header of thirty bytes can name hours of sound, thousands of steps or millions of atoms. What
it asks for is bounded twice: on its own (:data:`SECONDS`, :data:`CHOICES`, :data:`ATOMS`), and
by the codes that come with it, since whoever wants much has to send much. All is arithmetic on
the header; nothing is allocated for it.
"""

from __future__ import annotations

import math
from typing import Protocol

from audioldm_utils.audio import MODEL_RATE

SEGMENT = 256  # latent frames, 10.24 s: the length that AudioLDM2 is trained on
OVERLAP = 64

SECONDS = 4 * 3600  # of sound in one file
ATOMS = 4096  # of one choice: a single integer of up to 90,000 bits
CHOICES = 2**20  # atoms over all steps and segments
WINDOW = 1024  # latent frames that the denoiser sees at once, at most

# What a file may ask for without codes, and more for every byte of them. An ordinary file asks
# for far less a byte: 10.24 s in 50 steps have 98 bytes of codes.
_SEGMENTS, _SEGMENTS_A_BYTE = 4, 0.5
_FRAMES, _FRAMES_A_BYTE = 16 * SEGMENT, 4 * SEGMENT
_LEAST_FRAMES = 64  # a shorter window costs the network as much as one of these
_FULL_RATE = 48000  # Hz; a clip of a higher rate is longer than its seconds, by its samples


class Asked(Protocol):
    """What a :class:`~audioldm_utils.ddcm.bitstream.Header` says of sizes."""

    samples: int
    sample_rate: int
    steps: int
    codebook: str
    size: int
    atoms: int
    segment: int
    window: tuple[int, int]

    @property
    def seconds(self) -> float:
        """Of sound."""

    @property
    def atom_counts(self) -> tuple[int, ...]:
        """Of each noisy step."""


def model_samples(samples: int, sample_rate: int) -> int:
    """Samples at the model's rate of a clip of ``samples`` at ``sample_rate`` Hz."""
    return max(1, round(samples * MODEL_RATE / sample_rate))


def latent_frames(samples: int) -> int:
    """Latent frames of a clip of ``samples`` at 16 kHz, before segments are filled."""
    return math.ceil(math.ceil(samples / 160) / 4)


def layout(header: Asked) -> tuple[int, int]:
    """Segments of a header's clip, and the latent frames of each."""
    frames = latent_frames(model_samples(header.samples, header.sample_rate))
    parts = -(-frames // (header.segment or SEGMENT))
    return parts, -(-frames // parts)


def check_size(header: Asked) -> None:
    """Refuse sizes that no file of this program has, whatever follows.

    Raises:
        ValueError: names the field and its bound.
    """
    if header.seconds > SECONDS:
        raise ValueError(f"it holds {header.seconds:.4g} s of sound; a file holds {SECONDS} s")
    most = max(header.atom_counts, default=0)
    if most > ATOMS:
        raise ValueError(f"a step has {most} atoms; a file holds {ATOMS}")
    if header.codebook == "turbo" and most > header.size:
        raise ValueError(f"a step has {most} atoms of a codebook of {header.size}")
    parts, _ = layout(header)
    if header.atoms * parts > CHOICES:
        raise ValueError(f"it has {header.atoms} atoms in {parts} segments; a file holds {CHOICES}")
    if header.window != (0, 0):
        length, overlap = header.window
        if not 0 <= overlap < length <= WINDOW:
            raise ValueError(
                f"its windows of {length} frames overlap by {overlap}; they must be longer than "
                f"that, and at most {WINDOW}"
            )


def check_paid(header: Asked, size: int) -> None:
    """Refuse a header that asks for more than ``size`` bytes of codes can mean.

    Every atom takes a bit at least. Sound and network calls without codes lead nowhere, so a
    file may have few of them.

    Raises:
        ValueError: names what it asks for.
    """
    parts, part = layout(header)
    if header.atoms * parts > 8 * size:
        raise ValueError(
            f"{header.atoms} atoms in {parts} segments do not go into its {size} bytes of codes"
        )
    seconds = header.samples / min(header.sample_rate, _FULL_RATE)
    if seconds > (_SEGMENTS + _SEGMENTS_A_BYTE * size) * SEGMENT / 25:
        raise ValueError(f"{size} bytes of codes are too few for {header.seconds:.4g} s of sound")
    length, overlap = header.window if header.window != (0, 0) else (SEGMENT, OVERLAP)
    frames = parts * part
    windows = 1 + max(0, -(-(frames - length) // (length - overlap)))
    shown = header.steps * windows * max(min(length, frames), _LEAST_FRAMES)
    if shown > _FRAMES + _FRAMES_A_BYTE * size:
        raise ValueError(
            f"{size} bytes of codes are too few for {header.steps} steps of {windows} windows"
        )
