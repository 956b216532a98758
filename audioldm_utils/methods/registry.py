"""Every reconstruction method by name, with one signature.

``reconstruct(clips, method, checkpoint, **options)`` gives one :class:`Reconstruction` a clip.
:data:`METHODS` is what the command line and the notebooks list; a method's options are the
keyword arguments of its function.
"""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioldm_utils import bounds
from audioldm_utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from audioldm_utils.audio.clips import Clip
    from audioldm_utils.methods.base import Output
    from audioldm_utils.methods.cost import Cost
    from audioldm_utils.model.checkpoint import Checkpoint
    from audioldm_utils.model.networks import Networks


@dataclass(frozen=True)
class Option:
    """One option of a method: its name, type, default, what it does, and a number's range."""

    name: str
    type: type
    default: Any
    help: str
    bound: bounds.Number | None = None

    def parse(self, method: str, value: Any) -> Any:
        """A value of the option's type from text or from a value.

        Raises:
            UserError: it cannot be one, or is out of range.
        """
        kind = {bool: "true or false", str: "a text"}.get(self.type, self.bound)
        sentence = UserError(
            f"option {self.name} of {method} must be {kind}, not {bounds.shown(value)}."
        )
        if self.type is bool:
            if (word := str(value).lower()) not in _WORDS:
                raise sentence
            return _WORDS[word]
        try:
            result = self.type(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise sentence from error
        cut = self.type is int and not isinstance(value, str) and result != value
        if isinstance(value, bool) or cut or (self.bound and not self.bound.holds(result)):
            raise sentence
        return result


_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Method:
    """A named method.

    Attributes:
        name: as the command line takes it; its function's name has ``_`` in place of ``-``.
        module: of the function, under ``audioldm_utils.methods``.
        needs: components of the checkpoint.
        fits: what must be fitted for the checkpoint, by the options with their defaults: the
            name of a part that ``audioldm-utils fit`` stores, or an empty text.
    """

    name: str
    module: str
    summary: str
    paper: str
    needs: tuple[str, ...] = ("vae", "vocoder")
    fits: Callable[[dict[str, Any]], str] = lambda options: ""

    def load(self) -> Callable[..., Output]:
        """The function itself."""
        module = importlib.import_module(f"audioldm_utils.methods.{self.module}")
        return getattr(module, self.name.replace("-", "_"))

    @property
    def options(self) -> dict[str, Option]:
        """Its options by name, from the function's signature and docstring."""
        function = self.load()
        hints = typing.get_type_hints(function, include_extras=True)
        helps = _argument_helps(inspect.getdoc(function) or "")
        return {
            name: Option(
                name,
                getattr(hints[name], "__origin__", hints[name]),
                parameter.default,
                helps.get(name, ""),
                *getattr(hints[name], "__metadata__", ()),
            )
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    def parse(self, options: dict[str, Any]) -> dict[str, Any]:
        """Check options given by name, as text or as values; UserError as ``Option.parse``."""
        known = self.options
        for name in options:
            if name not in known:
                choices = ", ".join(known) or "none"
                raise UserError(f"method {self.name} has no option {name!r}; it has: {choices}.")
        return {name: known[name].parse(self.name, value) for name, value in options.items()}


def _argument_helps(doc: str) -> dict[str, str]:
    """Text of each argument of a Google-style docstring."""
    arguments = re.split(r"\n(?=\S)", doc.partition("Args:\n")[2])[0]
    found = re.findall(r"^    (\w+):(.*(?:\n {5,}.*)*)", arguments, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


_DDCM = "Ohayon et al. 2025, arXiv 2502.01189"
_DIFFUSION = ("vae", "vocoder", "unet")
_COMPENSATION = "compensation"

#: Every method, in the order of the book.
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("vae", "repair", "VAE and vocoder as they are",
               "Liu et al. 2023, arXiv 2308.05734"),
        Method("vae-griffinlim", "repair", "the VAE's mel through Griffin-Lim, without the vocoder",
               "Griffin and Lim 1984; Perraudin et al. 2013", ("vae",)),
        Method("vae-inverse", "repair",
               "the VAE's mel through a fitted inverse of the mel filterbank, then Griffin-Lim",
               "this project; Siuzdak 2023, arXiv 2306.00814 (blocks)", ("vae",)),
        Method("vae-highfreq", "repair", "4 to 8 kHz compensated, the band above 8 kHz extended",
               "Dietz et al. 2002, AES 5553 (spectral band replication)",
               fits=lambda o: _COMPENSATION if o["blind"] != "none" and not o["oracle"] else ""),
        Method("vae-denoise", "repair",
               "noise and artefacts suppressed, mel-consistent phase refinement",
               "Griffin and Lim 1984; Sainburg et al. 2020 (noisereduce)",
               fits=lambda o: _COMPENSATION if o["fitted"] else ""),
        Method("vae-refined", "repair", "latents refined by gradient steps on the mel distance",
               "Abdal et al. 2019, arXiv 1904.03189 (optimisation-based inversion)"),
        Method("vae-restored", "repair", "all repairs together, each left out where it would hurt",
               "this project",
               fits=lambda o: _COMPENSATION if o["blind"] and o["iterations"] else ""),
        Method("sdedit", "diffusion", "latents noised up to a strength and denoised again",
               "Meng et al. 2022, arXiv 2108.01073", _DIFFUSION),
        Method("ddpm-inversion", "diffusion",
               "edit-friendly inversion: exact noise maps, replayed",
               "Huberman-Spiegelglas et al. 2024, arXiv 2304.06140", _DIFFUSION),
        Method("guided", "diffusion", "reverse diffusion guided by the distance to the input",
               "Chung et al. 2023, arXiv 2209.14687", _DIFFUSION),
        Method("ddcm", "codec", "noise chosen from codebooks so that diffusion follows the input",
               _DDCM, _DIFFUSION, lambda o: o["codebook"] if o["codebook"] == "k-means" else ""),
        Method("ddcm-quantised", "codec", "latent vectors quantised by a codebook, then DDCM",
               f"{_DDCM}; van den Oord et al. 2017, arXiv 1711.00937",
               _DIFFUSION, lambda o: o["quantiser"]),
    )
}  # fmt: skip


def find_method(name: str) -> Method:
    """A method by name; UserError where there is none."""
    if name not in METHODS:
        raise UserError(f"unknown method {name!r}; choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


@dataclass(frozen=True)
class Reconstruction:
    """What a method made of one clip; what is not said here is said at its ``Output``.

    Attributes:
        options: those given, the rest being the method's defaults.
        audio: ``(samples,)`` float32, at the clip's own level and length.
        latents: ``(8, frames / 4, 16)`` float32, scaled.
        kbps: ``side_bits`` a second of the clip, in thousands.
        checkpoint: fingerprint.
    """

    clip: str
    method: str
    options: dict[str, Any]
    audio: np.ndarray
    sample_rate: int
    latents: torch.Tensor
    cost: Cost
    side_bits: int
    kbps: float
    seed: int
    checkpoint: str
    oracle: bool
    details: dict[str, Any]

    @property
    def label(self) -> str:
        """The method's name, marked where it is an oracle."""
        return f"{self.method} (oracle)" if self.oracle else self.method


def reconstruct(
    clips: Clip | Iterable[Clip],
    method: str = "vae",
    checkpoint: Networks | Checkpoint | str | Path = "mini",
    *,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> Iterator[Reconstruction]:
    """Reconstruct clips by a named method, one after another.

    Args:
        clips: one clip or several, such as ``survey.loaded`` yields; only one is held.
        method: a key of :data:`METHODS`.
        checkpoint: ``"mini"``, a folder, a hub id, or one that is loaded already.
        seed: of all noise; each clip starts from it anew.
        progress: gets a clip's name, a step's number and the number of all.
        **options: of the method.

    Raises:
        UserError: unknown method or option, a value out of range, or a checkpoint that
            lacks a component or what must be fitted for it; before any clip is read.
    """
    from audioldm_utils.audio.clips import Clip as ClipType
    from audioldm_utils.methods.base import Job
    from audioldm_utils.methods.cost import measured
    from audioldm_utils.model.networks import Networks as NetworksType

    chosen = find_method(method)
    checked = chosen.parse(options)
    bounds.SEED.check("seed", seed)
    networks = checkpoint if isinstance(checkpoint, NetworksType) else NetworksType(checkpoint)
    if part := chosen.fits({n: o.default for n, o in chosen.options.items()} | checked):
        _check_fitted(networks, part)
    # The checkpoint's vocoder is none of a method's networks where something else makes sound.
    needs = tuple(n for n in chosen.needs if n != "vocoder" or networks.synthesis == n)
    for name in needs:
        networks.checkpoint.part(name)
    function = chosen.load()

    def one(clip: Clip) -> Reconstruction:
        job = Job(clip, networks, seed)
        if progress:
            job.step = partial(progress, clip.name)
        with measured(networks.checkpoint, needs) as cost:
            output = function(job, **checked)
        return Reconstruction(
            clip=clip.name,
            method=method,
            options=checked,
            audio=job.own_level(output.waveform, output.sample_rate),
            sample_rate=output.sample_rate,
            latents=output.latents[0].detach().cpu(),
            cost=cost,
            side_bits=output.side_bits,
            kbps=output.side_bits / clip.seconds / 1000,
            seed=seed,
            checkpoint=networks.checkpoint.fingerprint,
            oracle=output.oracle,
            details=output.details,
        )

    return map(one, [clips] if isinstance(clips, ClipType) else clips)


def _check_fitted(networks: Networks, part: str) -> None:
    """Refuse a checkpoint for which nothing of that name is fitted (UserError)."""
    from audioldm_utils.ddcm.codebook.fitted import load_fitted
    from audioldm_utils.methods.enhance.bands import load_compensation

    place = networks.checkpoint.path, networks.checkpoint.fingerprint
    fitted = part != _COMPENSATION
    _ = load_fitted(*place, part) if fitted else load_compensation(*place, networks.synthesis)
