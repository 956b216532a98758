"""Whether a component's configuration can be built, before any of its weights are read.

Anybody may have written a configuration, and the libraries' constructors answer a strange one
with any exception, with a network that fails when it is called, or by filling the memory. So
the entries' types are checked against the class's own signature, and the network is built
without memory (on the ``meta`` device) and compared with the weights' header.
"""

from __future__ import annotations

import importlib
import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from audioldm_utils.errors import UserError
from audioldm_utils.model.checkpoint_files import read_json
from audioldm_utils.model.checkpoint_weights import WeightSet, read_shapes

#: Library and class of each component, whatever the index says; the scheduler names its own.
CLASSES = {
    "vae": ("diffusers", "AutoencoderKL"),
    "vocoder": ("transformers", "SpeechT5HifiGan"),
    "unet": ("diffusers", "AudioLDM2UNet2DConditionModel"),
    "text_encoder": ("transformers", "ClapModel"),
    "text_encoder_2": ("transformers", "T5EncoderModel"),
    "language_model": ("transformers", "GPT2LMHeadModel"),
    "projection_model": ("diffusers", "AudioLDM2ProjectionModel"),
    "tokenizer": ("transformers", "RobertaTokenizer"),
    "tokenizer_2": ("transformers", "T5Tokenizer"),
    "feature_extractor": ("transformers", "ClapFeatureExtractor"),
}

# No number in a configuration is larger: the largest of the published ones is 480,000.
_LARGEST = 1_000_000
# Entries that may be negative, besides numbers of tokens (-1: none).
_SIGNED = ("_id", "shift_factor", "latents_mean")
# No network of AudioLDM2 has more tensors; the published UNet has fewer than 2000.
_MOST_TENSORS = 20_000
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def component_class(name: str, folder: Path) -> type:
    """The class that a component loads as.

    Raises:
        UserError: a scheduler's configuration names a class that is none of diffusers' own.
    """
    if name != "scheduler":
        library, kind = CLASSES[name]
        return getattr(importlib.import_module(library), kind)
    import diffusers
    from diffusers.schedulers import KarrasDiffusionSchedulers

    path = folder / "scheduler_config.json"
    kind = read_json(path).get("_class_name", "DDIMScheduler")
    if not isinstance(kind, str) or kind not in KarrasDiffusionSchedulers.__members__:
        raise UserError(
            f"{path} asks for {str(kind)[:80]!r}, which is none of the diffusers schedulers that"
            " AudioLDM2 runs with: name one, such as DDIMScheduler"
        )
    found = getattr(diffusers, kind)
    try:
        found.load_config  # noqa: B018 - asked, not used
    except ImportError as error:  # some want a library that is not installed
        raise refusal(folder, kind, error) from error
    return found


def refusal(folder: Path, kind: str, error: Exception | str) -> UserError:
    """What is said where no component of that class can be made of a folder."""
    reason = " ".join(str(error).split()).rstrip(".") or repr(error)
    reason = reason if len(reason) <= 300 else reason[:297] + "..."
    return UserError(f"{folder} cannot be loaded as {kind}: {reason}; correct it or copy it again")


def check_types(folder: Path, kind: type, config: Mapping[str, Any]) -> None:
    """Refuse entries of another type than the class's constructor takes, and absurd numbers.

    Raises:
        UserError: naming the entry.
    """
    for key, value in _numbers(config):
        if abs(value) > _LARGEST or (value < 0 and not key.endswith(_SIGNED)):
            said = f"{key} is {_shown(value)}, which no AudioLDM2 has"
            raise refusal(folder, kind.__name__, said)
    if hasattr(kind, "config_class") and not hasattr(kind, "load_config"):  # of transformers
        try:
            kind.config_class.from_dict(dict(config))
        except Exception as error:
            raise refusal(folder, kind.__name__, error) from error
        return
    for name, parameter in inspect.signature(kind.__init__, eval_str=True).parameters.items():
        if name in config and not _fits(config[name], parameter.annotation):
            said = f"{name} is {_shown(config[name])}, not {_words(parameter.annotation)}"
            raise refusal(folder, kind.__name__, said)


def _numbers(content: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a configuration with the entry that it stands in."""
    if isinstance(content, Mapping | list):
        pairs = content.items() if isinstance(content, Mapping) else ((key, v) for v in content)
        for name, value in pairs:
            yield from _numbers(value, name)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield key, content


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a JSON value is what an annotation of diffusers asks for.

    ``tuple[int]`` is a list of any length there, and its members may be lists themselves; where
    it says ``int``, published files have pairs as well (``sample_size`` of the UNet).
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is typing.Literal:
        return isinstance(value, str) and value in inner
    if annotation in (None, types.NoneType):
        return value is None
    if _is_list(annotation):
        one = inner[0] if inner else float if origin is None else Any
        return isinstance(value, list) and all(
            item is None or _fits(item, annotation if isinstance(item, list) else one)
            for item in value
        )
    if annotation is int and isinstance(value, list):
        return 0 < len(value) <= 2 and all(type(item) is int for item in value)
    if annotation is float:
        return type(value) in (int, float)
    return type(value) is annotation if annotation in _WORDS else True


def _is_list(annotation: Any) -> bool:
    kind = typing.get_origin(annotation) or annotation
    return kind in (tuple, list) or getattr(kind, "__name__", "") == "ndarray"


def _words(annotation: Any) -> str:
    """An annotation in words."""
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_words, inner)))
    if typing.get_origin(annotation) is typing.Literal:
        return "one of " + ", ".join(map(str, inner))
    if annotation in (None, types.NoneType):
        return "null"
    return "a list" if _is_list(annotation) else _WORDS.get(annotation, "what the class takes")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def check_build(
    folder: Path, kind: type, config: Mapping[str, Any], weights: WeightSet | None
) -> None:
    """Build a component without memory, call it, and compare it with the headers of its weights.

    Raises:
        UserError: it cannot be built or called, is far larger than its weights, or has other
            shapes.
    """
    files = [folder / file for file in weights.files] if weights else []
    held = sum(file.stat().st_size for file in files)
    try:
        shapes = _shapes(folder.name, kind, json.dumps(config), held)
    except Exception as error:
        said = f"its configuration gives none that works ({error})"
        raise refusal(folder, kind.__name__, said) from error
    for file in files if weights and weights.format == "safetensors" else ():
        for name, shape in read_shapes(file).items():
            own = shapes.get(name, shapes.get(f"{shapes['']}.{name}", shape))
            if own != shape:
                said = f"by its config.json {name} has the shape {list(own)}, in its weights"
                raise refusal(folder, kind.__name__, f"{said} {list(shape)}")


@lru_cache(maxsize=64)
def _shapes(name: str, kind: type, config: str, held: int) -> dict[str, Any]:
    """Shape of each tensor of a network; under ``""``, what files may leave out of the names.

    Args:
        config: as JSON.
        held: bytes of its weights.

    Raises:
        Exception: whatever the library makes of the configuration.
    """
    content = json.loads(config)
    with _quiet_diffusers(), _bounded(held):
        if name == "scheduler":
            kind.from_config(content)
            return {}
        with torch.device("meta"), torch.inference_mode():
            if hasattr(kind, "load_config"):
                network = kind.from_config(content)
            else:
                network = kind(kind.config_class.from_dict(content))
            _call(name, network.eval(), content)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    return {**shapes, "": getattr(network, "base_model_prefix", "")}


def _call(name: str, network: torch.nn.Module, config: Mapping[str, Any]) -> None:
    """Call a network as this project does; on the meta device only shapes are computed.

    Raises:
        Exception: whatever the library does, or ValueError for a result of another shape.
    """
    if name == "vae":
        latents = network.encode(torch.zeros(1, 1, 16, 64)).latent_dist.mode()
        found = {latents.shape: (1, 8, 4, 16), network.decode(latents).sample.shape: (1, 1, 16, 64)}
    elif name == "vocoder":
        length = network(torch.zeros(1, 16, 64)).shape[-1]  # 160 a frame and a few more
        found = {(length // 1280,): (2,)}
    elif name == "unet":
        # GPT-2's states go to the first or second attention of a layer, T5's to the third.
        dims = config["cross_attention_dim"][0]
        wide = [next((dim for dim in part if dim), 1) for part in (dims[:2], dims[2:])]
        states = [torch.zeros(1, 4, dim) for dim in wide]
        latents = torch.zeros(1, 8, 16, 16)
        out = network(latents, 1, states[0], encoder_hidden_states_1=states[1]).sample
        found = {out.shape: (1, 8, 16, 16)}
    elif name == "text_encoder_2":
        states = network(torch.zeros(1, 4, dtype=torch.long)).last_hidden_state
        found = {states.shape: (1, 4, config["d_model"])}
    else:
        return
    for shape, wanted in found.items():
        if shape != wanted:
            raise ValueError(f"a result of shape {list(shape)}, not {list(wanted)}")


@contextmanager
def _bounded(held: int) -> Iterator[None]:
    """Stop a constructor that makes far more than ``held`` bytes of weight files can hold."""
    tensors = numbers = 0

    def count(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> None:
        nonlocal tensors, numbers
        tensors, numbers = tensors + 1, numbers + (0 if parameter is None else parameter.numel())
        # A number takes a byte at least.
        if tensors > _MOST_TENSORS or numbers > held + _LARGEST:
            raise ValueError("its configuration describes a far larger network than its weights")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _quiet_diffusers() -> Iterator[None]:
    """What diffusers says of unknown entries, it says again when the component is loaded."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
