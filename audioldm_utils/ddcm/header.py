"""What a ``.ddcm`` file says beside its codes, and how much sound and network time it may ask for.

A header of thirty bytes can name hours of sound, thousands of steps or millions of atoms. What
it asks for is bounded twice: on its own, and by the bytes of codes that come with it. All is
arithmetic on the header; nothing is allocated for it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.model import DOWNSAMPLING, HOP

FINGERPRINT_BYTES = 6
FIXED_LIMIT = 48  # bytes of everything but optional fields and payload

CODEBOOKS = {  # name: what the field `size` means
    "gaussian": "size",
    "cyclic": "bases",
    "turbo": "size",
    "matching-pursuit": "size",
    "k-means": "size",
}
PLACEMENTS = {  # name: its parameters, in the order in which they are stored
    "uniform": (),
    "trailing": (),
    "linspace": (),
    "alpha-bar": ("stop", "power"),
    "log-snr": ("stop",),
    "given": (),
}

SEGMENT = 256  # latent frames, 10.24 s: the length that AudioLDM2 is trained on
OVERLAP = 64
SECONDS = 4 * 3600  # of sound in one file
ATOMS = 4096  # of one choice: a single integer of up to 90,000 bits
CHOICES = 2**20  # atoms over all steps and segments
WINDOW = 1024  # latent frames that the denoiser sees at once, at most
# A choice is unranked by a walk over the codebook, and no larger one can be searched.
_TURBO_SIZE = 2**16
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
# What a file may ask for without codes, and more for every byte of them. An ordinary file asks
# for far less a byte: 10.24 s in 50 steps have 98 bytes of codes.
_SEGMENTS, _SEGMENTS_A_BYTE = 4, 0.5
_FRAMES, _FRAMES_A_BYTE = 16 * SEGMENT, 4 * SEGMENT
_LEAST_FRAMES = 64  # a shorter window costs the network as much as one of these
_FULL_RATE = 48000  # Hz; a clip of a higher rate is longer than its seconds, by its samples


@dataclass(frozen=True)
class Header:
    """What a decoder has to know beside the codes."""

    fingerprint: bytes  # of the checkpoint: ``FINGERPRINT_BYTES`` first bytes of its SHA-256
    samples: int  # of the original, 1 to 2^35 - 1, and at most 4 hours
    sample_rate: int  # of the original, Hz, 1000 to 768,000
    codebook: str = "cyclic"  # a key of ``CODEBOOKS``
    size: int = 1  # its bases or atoms, 1 to 2^21 - 1; of "turbo" to 2^16
    placement: str = "uniform"  # where the steps lie, a key of ``PLACEMENTS``
    parameters: tuple[float, ...] = ()  # of the placement, multiples of 0.001 within -1000 to 1000
    steps: int = 50  # reverse steps T, 1 to 2^14 - 1
    atoms: int = 49  # over all noisy steps; 4096 a step at most, 2^20 in all segments together
    seed: int = 0  # of codebook and starting noise, 0 to 2^28 - 1
    mean: float = 0.0  # of the original waveform; stored to 11 bits
    scale: float = 1.0  # gain of the original, > 0; stored to 0.07 %
    eta: float = 1.0  # share of the DDPM noise, 0 to 1, multiple of 0.001
    guidance: float = 1.0  # classifier-free guidance, multiple of 0.001; 1 without a prompt
    prompt: str | None = None  # text that the denoiser was given
    negative_prompt: str | None = None  # text that guidance leads away from
    timesteps: tuple[int, ...] | None = None  # strictly falling, with placement "given" only
    # Atoms of each of the ``steps - 1`` noisy steps, ``atoms`` in all, unless spread evenly.
    atoms_per_step: tuple[int, ...] | None = None
    segment: int = 0  # most latent frames that share a choice; 0: the usual 256
    # Latent frames that the denoiser sees at once, 1 to 1024, and their overlap, which is
    # shorter; (0, 0): the usual (256, 64).
    window: tuple[int, int] = (0, 0)
    codebook_digest: bytes = b""  # first bytes of the SHA-256 of a fitted codebook
    coefficient_bits: int = 0  # of matching pursuit, to 8; 0: none

    @property
    def seconds(self) -> float:
        """Duration of the original, s."""
        return self.samples / self.sample_rate

    @property
    def atom_counts(self) -> tuple[int, ...]:
        """Atoms of each of the ``steps - 1`` noisy steps."""
        if self.atoms_per_step is not None:
            return self.atoms_per_step
        noisy = self.steps - 1
        return tuple((i + 1) * self.atoms // noisy - i * self.atoms // noisy for i in range(noisy))


@dataclass(frozen=True)
class Sizes:
    """Where a file's bytes went: fixed part and checksum, optional fields, codes."""

    fixed: int
    optional: int
    payload: int
    seconds: float

    @property
    def file(self) -> int:
        """Bytes of the whole file."""
        return self.fixed + self.optional + self.payload

    @property
    def kbps(self) -> float:
        """True rate: every bit of the file, kbit/s."""
        return 8 * self.file / self.seconds / 1000

    @property
    def payload_kbps(self) -> float:
        """Rate of the codes alone, kbit/s."""
        return 8 * self.payload / self.seconds / 1000


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
    if not abs(header.mean) < 65504:
        raise ValueError(f"mean is {header.mean}")
    if not 2.0**-31 < header.scale < 2.0**31:
        raise ValueError(f"scale is {header.scale}")
    _check_size(header)


def _check_size(header: Header) -> None:
    """Refuse sizes that no file of this program has, whatever follows."""
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
    length, overlap = header.window
    if header.window != (0, 0) and not 0 <= overlap < length <= WINDOW:
        raise ValueError(
            f"its windows of {length} frames overlap by {overlap}; they must be longer than "
            f"that, and at most {WINDOW}"
        )


def check_paid(header: Header, size: int) -> None:
    """Refuse a header that asks for more than ``size`` bytes of codes can mean (ValueError).

    Every atom takes a bit at least. Sound and network calls without codes lead nowhere, so a
    file may have few of them.
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
