"""How to encode, and the header that follows from it: a rate becomes steps, atoms, placement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from audioldm_utils import bounds
from audioldm_utils.ddcm import bitstream
from audioldm_utils.ddcm import codebook as codebooks
from audioldm_utils.ddcm.codebook.fitted import load_kmeans
from audioldm_utils.ddcm.header import (
    CODEBOOKS,
    FINGERPRINT_BYTES,
    OVERLAP,
    PLACEMENTS,
    SEGMENT,
    Header,
)
from audioldm_utils.ddcm.packing import BLOCK
from audioldm_utils.ddcm.placement import Rule, load_rules, plan_rate
from audioldm_utils.errors import UserError

if TYPE_CHECKING:
    from audioldm_utils.audio.signals import Gain
    from audioldm_utils.ddcm.codebook import Codebook
    from audioldm_utils.model.networks import Networks

#: Ranges of those settings that are one number, or None.
_BOUNDS = {
    "kbps": bounds.KBPS,
    "steps": bounds.STEPS,
    "size": bounds.SIZE,
    "stop": bounds.STOP,
    "power": bounds.POWER,
    "eta": bounds.SHARE,
    "guidance": bounds.GUIDANCE,
    "seed": bounds.SEED,
}


@dataclass(frozen=True)
class Settings:
    """How to encode; with a rate, what is None is chosen for it."""

    kbps: float | None = 0.5  # kbit/s with header, never exceeded; None: ``atoms`` as given
    steps: int = 50  # network calls; with a rate, the most
    atoms: int | Sequence[int] = 1  # a step, or of each noisy step; without a rate only
    codebook: str = "cyclic"  # a key of ``CODEBOOKS``
    size: int | None = None  # bases of "cyclic" (default 1), atoms of another (default 1024)
    coefficient_bits: int = 3  # of matching pursuit
    placement: str | None = None  # where the steps lie, a key of ``PLACEMENTS``
    stop: float | None = None  # alpha-bar of the last step, multiple of 0.001
    power: float | None = None  # exponent of alpha-bar, multiple of 0.001
    timesteps: Sequence[int] | None = None  # explicit schedule instead
    eta: float = 1.0  # share of the DDPM noise, multiple of 0.001
    prompt: str | None = None  # text for the denoiser; stored in the file, as is the next
    negative_prompt: str | None = None
    guidance: float = 1.0  # classifier-free guidance scale, multiple of 0.001; 1 is none
    seed: int = 0  # of codebook and starting noise
    segment: int = SEGMENT  # most latent frames that share a choice
    window: int = SEGMENT  # latent frames that the denoiser sees at once
    overlap: int = OVERLAP  # latent frames that neighbouring windows share
    # Options of ``Codebook.choose`` (weights, temperature, seeds), which a decoder does not need.
    selection: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers out of range, wherever they come from (UserError)."""
        for name, bound in _BOUNDS.items():
            if getattr(self, name) is not None:
                bound.check(name, getattr(self, name))
        if isinstance(self.atoms, int):
            bounds.ATOMS.check("atoms", self.atoms)
        bounds.TEMPERATURE.check("temperature", self.selection.get("temperature", 0.0))


def codebook_for(networks: Networks, header: Header, part: int) -> Codebook:
    """The codebook that a header names, for segments of ``part`` latent frames."""
    shape = (8, part, 16)
    if header.codebook == "k-means":
        place = networks.checkpoint.path, networks.checkpoint.fingerprint
        digest = header.codebook_digest.hex() or None
        return load_kmeans(*place, shape, seed=header.seed, digest=digest)
    options = {CODEBOOKS[header.codebook]: header.size}
    if header.codebook == "matching-pursuit":
        options["coefficient_bits"] = header.coefficient_bits
    return codebooks.make(header.codebook, shape, header.seed, **options)


def header_for(
    networks: Networks,
    settings: Settings,
    samples: int,
    rate: int,
    level: Gain,
    parts: int,
    part: int,
) -> Header:
    """The header of a clip, rounded to what a file holds, with the plan for its rate.

    Args:
        samples: of the original, whose sample rate is ``rate``, Hz.
        level: what normalisation removed from it.
        parts: segments, of ``part`` latent frames each.

    Raises:
        UserError: the rate is too low for the clip, or a setting is out of range.
    """
    if settings.codebook not in CODEBOOKS:
        raise UserError(f"codebook {settings.codebook!r} is not one of {', '.join(CODEBOOKS)}")
    pursuit = settings.codebook == "matching-pursuit"
    window = (settings.window, settings.overlap)
    header = Header(
        fingerprint=bytes.fromhex(networks.checkpoint.fingerprint)[:FINGERPRINT_BYTES],
        samples=samples,
        sample_rate=rate,
        codebook=settings.codebook,
        size=settings.size or (1 if settings.codebook == "cyclic" else 1024),
        coefficient_bits=settings.coefficient_bits if pursuit else 0,
        seed=settings.seed,
        mean=float(level.mean),
        scale=1 / float(level.scale),
        eta=settings.eta,
        guidance=settings.guidance,
        prompt=settings.prompt,
        negative_prompt=settings.negative_prompt,
        segment=0 if settings.segment == SEGMENT else settings.segment,
        window=(0, 0) if window == (SEGMENT, OVERLAP) else window,
    )
    book = codebook_for(networks, header, part)
    if header.codebook == "k-means":
        header = replace(header, codebook_digest=bytes.fromhex(book.digest), size=book.size)
    try:
        if settings.kbps is None:
            return bitstream.stored(_with_atoms(header, settings))
        rules = load_rules(networks.checkpoint.path, networks.checkpoint.fingerprint)
        return bitstream.stored(_with_rate(header, settings, book, parts, rules))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"these settings do not fit a .ddcm file: {error}") from error


def _placed(
    header: Header,
    timesteps: Sequence[int] | None,
    placement: str = "uniform",
    stop: float | None = None,
    power: float | None = None,
) -> Header:
    if timesteps is not None:
        return replace(header, placement="given", parameters=(), timesteps=tuple(timesteps))
    if placement not in PLACEMENTS or placement == "given":
        names = ", ".join(name for name in PLACEMENTS if name != "given")
        raise UserError(f"placement {placement!r} is not one of {names}")
    values = {"stop": 0.97 if stop is None else stop, "power": 1.0 if power is None else power}
    parameters = tuple(values[name] for name in PLACEMENTS[placement])
    return replace(header, placement=placement, parameters=parameters)


def _with_atoms(header: Header, settings: Settings) -> Header:
    timesteps, given = settings.timesteps, settings.atoms
    steps = settings.steps if timesteps is None else len(timesteps)
    counts = (given,) * (steps - 1) if isinstance(given, int) else tuple(given)
    where = settings.placement or "uniform", settings.stop, settings.power
    return _spread(_placed(header, timesteps, *where), steps, counts)


def _spread(header: Header, steps: int, counts: tuple[int, ...]) -> Header:
    """The header with the atoms of each noisy step, which are listed unless they lie evenly."""
    header = replace(header, steps=steps, atoms=sum(counts))
    return header if header.atom_counts == counts else replace(header, atoms_per_step=counts)


def _with_rate(
    header: Header, settings: Settings, book: Codebook, parts: int, rules: Sequence[Rule]
) -> Header:
    """The header of the plan for a rate; the header's own bits are paid from it."""
    timesteps = settings.timesteps
    most = settings.steps if timesteps is None else len(timesteps)
    trial = replace(_placed(header, timesteps), atoms=0, steps=1 if timesteps is None else most)
    size = len(bitstream.to_bytes(trial, b""))
    while True:
        # A payload is a whole number of bytes, and each block of codes of bits.
        overhead = 8 * size + 7 + -(-most * parts // BLOCK)
        plan = plan_rate(
            book,
            settings.kbps,
            header.seconds / parts,
            max_steps=most,
            overhead_bits=overhead / parts,
            rules=rules,
        )
        if timesteps is not None and plan.steps != most:
            raise UserError(
                f"{settings.kbps:g} kbit/s pays for {plan.steps - 1} choices, but the {most} "
                f"given timesteps take {most - 1}; give fewer timesteps or a higher rate"
            )
        stop = round(plan.stop if settings.stop is None else settings.stop, 3)
        power = round(plan.power if settings.power is None else settings.power, 3)
        found = _placed(header, timesteps, settings.placement or plan.placement, stop, power)
        found = _spread(found, plan.steps, plan.atoms)
        needed = len(bitstream.to_bytes(found, b""))
        if needed <= size:
            return found
        size = needed  # grows each time, so this ends
