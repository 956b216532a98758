"""What a ``.ddcm`` file says beside its codes."""

from __future__ import annotations

from dataclasses import dataclass

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
