"""What a ``.ddcm`` file says beside its codes, and what it cannot say."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from audioldm_utils.ddcm.bitstream.work import check_size

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


@dataclass(frozen=True)
class Header:
    """What a decoder has to know beside the codes.

    Attributes:
        fingerprint: checkpoint, ``FINGERPRINT_BYTES`` first bytes of its SHA-256.
        samples: of the original, 1 to 2^35 - 1, and at most 4 hours.
        sample_rate: of the original, Hz, 1000 to 768,000.
        codebook: name, a key of ``CODEBOOKS``.
        size: bases or atoms of the codebook, 1 to 2^21 - 1; of "turbo" to 2^16.
        placement: where the steps lie, a key of ``PLACEMENTS``.
        parameters: of the placement, as ``PLACEMENTS`` names them, multiples of 1/1000
            between -1000 and 1000.
        steps: reverse steps T, 1 to 2^14 - 1.
        atoms: over all noisy steps; see ``atom_counts``. A step has at most 4096, and all
            steps of all segments 2^20.
        seed: of codebook and starting noise, 0 to 2^28 - 1.
        mean: of the original waveform; stored to 11 bits.
        scale: gain of the original, > 0; stored to 0.07 %.
        eta: share of the DDPM noise, 0 to 1, multiple of 1/1000.
        guidance: classifier-free guidance scale, multiple of 1/1000; 1 without a prompt.
        prompt: text that the denoiser was given, or None.
        negative_prompt: text that guidance leads away from, or None.
        timesteps: explicit schedule, strictly falling, placement "given" only.
        atoms_per_step: atoms of each noisy step (``steps - 1`` of them, ``atoms`` in all)
            where they are not spread evenly.
        segment: most latent frames that share a choice; 0: the usual 256.
        window: latent frames that the denoiser sees at once, 1 to 1024, and their overlap,
            which is shorter; (0, 0): the usual (256, 64).
        codebook_digest: first bytes of the SHA-256 of a fitted codebook.
        coefficient_bits: of matching pursuit, to 8; 0: none.
    """

    fingerprint: bytes
    samples: int
    sample_rate: int
    codebook: str = "cyclic"
    size: int = 1
    placement: str = "uniform"
    parameters: tuple[float, ...] = ()
    steps: int = 50
    atoms: int = 49
    seed: int = 0
    mean: float = 0.0
    scale: float = 1.0
    eta: float = 1.0
    guidance: float = 1.0
    prompt: str | None = None
    negative_prompt: str | None = None
    timesteps: tuple[int, ...] | None = None
    atoms_per_step: tuple[int, ...] | None = None
    segment: int = 0
    window: tuple[int, int] = (0, 0)
    codebook_digest: bytes = b""
    coefficient_bits: int = 0

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
    """Where a file's bytes went; ``fixed + optional + payload`` is the file.

    Attributes:
        fixed: magic to gain, and checksum.
        optional: optional fields.
        payload: codes.
        seconds: duration of the original.
    """

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


def check(header: Header) -> None:
    """Refuse what the file cannot hold; the one gate, before anything is made from a header.

    Raises:
        ValueError: names the field and what it may hold.
    """
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
    if len(header.parameters) != len(PLACEMENTS[header.placement]):
        raise ValueError(
            f"placement {header.placement!r} has {len(PLACEMENTS[header.placement])} parameters, "
            f"not {len(header.parameters)}"
        )
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
