"""What a ``.ddcm`` header may say: its fields, and how much sound and network time it asks for.

A header of thirty bytes can name hours of sound, thousands of steps or millions of atoms. What
it asks for is bounded twice: on its own, and by the bytes of codes that come with it. All is
arithmetic on the header; nothing is allocated for it.
"""

from __future__ import annotations

import itertools
import math

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.ddcm.bitstream.header import CODEBOOKS, FINGERPRINT_BYTES, PLACEMENTS, Header
from audioldm_utils.model import DOWNSAMPLING, HOP

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


_LIMITS = {
    "samples": (1, 2**35 - 1),
    "sample_rate": (1000, 768_000),
    "size": (1, 2**21 - 1),
    "steps": (1, 2**14 - 1),
    "atoms": (0, 2**21 - 1),
    "seed": (0, 2**28 - 1),
    "eta": (0, 1),
    "coefficient_bits": (0, 8),
}
# A choice is unranked by a walk over the codebook, and no larger one can be searched.
_TURBO_SIZE = 2**16


def model_samples(samples: int, sample_rate: int) -> int:
    """Samples at the model's rate of a clip of ``samples`` at ``sample_rate`` Hz."""
    return max(1, round(samples * MODEL_RATE / sample_rate))


def latent_frames(samples: int) -> int:
    """Latent frames of a clip of ``samples`` at 16 kHz, before segments are filled."""
    return math.ceil(math.ceil(samples / HOP) / DOWNSAMPLING)


def segment_frames(frames: int, longest: int) -> tuple[int, int]:
    """Equal segments of at most ``longest`` that cover ``frames``: how many, frames of each."""
    count = -(-frames // longest)
    return count, -(-frames // count)


def layout(header: Header) -> tuple[int, int]:
    """Segments of a header's clip, and the latent frames of each."""
    frames = latent_frames(model_samples(header.samples, header.sample_rate))
    return segment_frames(frames, header.segment or SEGMENT)


def shown_window(header: Header) -> tuple[int, int]:
    """Latent frames that the denoiser sees at once, and their overlap."""
    return header.window if header.window != (0, 0) else (SEGMENT, OVERLAP)


def check(header: Header) -> None:
    """Refuse what the file cannot hold (ValueError); before anything is made from a header."""
    for name, (low, high) in _LIMITS.items():
        if not low <= getattr(header, name) <= high:
            raise ValueError(f"{name} is {getattr(header, name)}; the file holds {low} to {high}")
    if header.codebook == "turbo" and header.size > _TURBO_SIZE:
        raise ValueError(f"size is {header.size}; a turbo codebook has at most {_TURBO_SIZE}")
    if len(header.fingerprint) != FINGERPRINT_BYTES:
        raise ValueError(f"the fingerprint has {len(header.fingerprint)} bytes, not 6")
    if header.codebook not in CODEBOOKS:
        raise ValueError(f"codebook {header.codebook!r} is none of {', '.join(CODEBOOKS)}")
    if header.placement not in PLACEMENTS:
        raise ValueError(f"placement {header.placement!r} is none of {', '.join(PLACEMENTS)}")
    count, wanted = len(header.parameters), len(PLACEMENTS[header.placement])
    if count != wanted:
        raise ValueError(f"placement {header.placement!r} has {wanted} parameters, not {count}")
    if any(abs(value) > 1000 for value in header.parameters):
        raise ValueError("a parameter of the placement is beyond 1000")
    if (header.placement == "given") != (header.timesteps is not None):
        raise ValueError("explicit timesteps and placement 'given' belong together")
    if header.timesteps is not None:
        steps = header.timesteps
        falling = all(a > b for a, b in itertools.pairwise(steps))
        if len(steps) != header.steps or not falling or steps[-1] < 0:
            raise ValueError("explicit timesteps are not `steps` strictly falling numbers")
    if header.atoms_per_step is not None and (
        len(header.atoms_per_step) != header.steps - 1
        or any(a < 0 for a in header.atoms_per_step)
        or sum(header.atoms_per_step) != header.atoms
    ):
        raise ValueError("atoms_per_step does not hold steps - 1 numbers that sum to atoms")
    if header.steps == 1 and header.atoms:
        raise ValueError(f"{header.atoms} atoms have no step; a single step adds no noise")
    if header.guidance != 1 and header.prompt is None and header.negative_prompt is None:
        raise ValueError(f"guidance {header.guidance:g} needs a prompt to lead to")
    if not math.isfinite(header.mean) or not abs(header.mean) < 65504:
        raise ValueError(f"mean is {header.mean}")
    if not (math.isfinite(header.scale) and 2.0**-31 < header.scale < 2.0**31):
        raise ValueError(f"scale is {header.scale}")
    check_size(header)


def check_size(header: Header) -> None:
    """Refuse sizes that no file of this program has, whatever follows (ValueError)."""
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


def check_paid(header: Header, size: int) -> None:
    """Refuse a header that asks for more than ``size`` bytes of codes can mean.

    Every atom takes a bit at least. Sound and network calls without codes lead nowhere, so a
    file may have few of them. Raises ValueError.
    """
    parts, part = layout(header)
    if header.atoms * parts > 8 * size:
        raise ValueError(
            f"{header.atoms} atoms in {parts} segments do not go into its {size} bytes of codes"
        )
    seconds = header.samples / min(header.sample_rate, _FULL_RATE)
    if seconds > (_SEGMENTS + _SEGMENTS_A_BYTE * size) * SEGMENT / 25:
        raise ValueError(f"{size} bytes of codes are too few for {header.seconds:.4g} s of sound")
    length, overlap = shown_window(header)
    frames = parts * part
    windows = 1 + max(0, -(-(frames - length) // (length - overlap)))
    shown = header.steps * windows * max(min(length, frames), _LEAST_FRAMES)
    if shown > _FRAMES + _FRAMES_A_BYTE * size:
        raise ValueError(
            f"{size} bytes of codes are too few for {header.steps} steps of {windows} windows"
        )
