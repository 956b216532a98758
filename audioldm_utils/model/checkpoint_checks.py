"""The gate of checkpoints: what is wrong with one is said before anything heavy is loaded.

Whether a folder holds an AudioLDM2 checkpoint at all (another family is named), whether all of
its components are whole, and whether their configurations can be built. Only whether the
weights are finite is seen on loading them.

Anybody may have written a configuration, and the libraries' constructors answer a strange one
with any exception, with a network that fails when it is called, or by filling the memory. So
entries are compared with the class's own signature, and the network is built without memory (on
the ``meta`` device), called, and compared with the weights' header.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from audioldm_utils.bounds import shown
from audioldm_utils.errors import UserError
from audioldm_utils.files import user_cache
from audioldm_utils.model.checkpoint_files import (
    COMPONENTS,
    check_component,
    component_class,
    read_json,
    refusal,
)
from audioldm_utils.model.checkpoint_weights import WeightSet, read_shapes
from audioldm_utils.model.mel import MelConfig
from audioldm_utils.model.schedule import training_alphas_bar

# No number in a configuration is larger: the largest of the published ones is 480,000.
_LARGEST = 1_000_000
# Entries that may be negative, besides numbers of tokens (-1: none).
_SIGNED = ("_id", "shift_factor", "latents_mean")
# No network of AudioLDM2 has more tensors; the published UNet has fewer than 2000.
_MOST_TENSORS = 20_000
# Of what is checked: a stricter gate asks again.
_GATE = 1
_WORDS = {
    **{int: "a whole number", float: "a number", str: "a text", bool: "true or false"},
    **{list: "a list", types.NoneType: "null"},
}


def check_checkpoint(path: Path, half: bool = False) -> None:
    """Refuse a checkpoint of which any component that is there cannot be used.

    A component that is not there is missed by those who need it. ``half``: prefer files of half
    precision.

    Raises:
        UserError: one sentence with the checkpoint, the component and what is wrong.
    """
    _check_kind(path)
    for name in COMPONENTS:
        if (path / name).is_dir():
            _check_configurations(path / name, check_component(path / name, half))


def _check_configurations(folder: Path, weights: WeightSet | None) -> None:
    """Refuse configurations that do not fit the component's class, AudioLDM2 or its weights.

    That they can be built is noted in the user's cache, since asking the libraries takes seconds.
    """
    built = weights is not None or folder.name == "scheduler"
    file = "scheduler_config.json" if folder.name == "scheduler" else "config.json"
    paths = [folder / file] if built else sorted(folder.glob("*_config.json"))
    configs = {path: read_json(path) for path in paths}
    note = _note(folder, list(configs.values()), weights)
    kind = None if note.exists() else component_class(folder.name, folder)
    for path, config in configs.items():
        if kind is not None:
            check_types(folder, kind, config)
        if built:
            _check_geometry(path, config)
        else:
            longest = config.get("model_max_length", 1)
            if type(longest) is not int or longest < 1:
                raise UserError(f"{path} has no usable model_max_length: give it a whole number")
        if kind is not None and built:
            check_build(folder, kind, config, weights)
    if kind is not None:
        with suppress(OSError):  # without a cache it is built again
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()


def _note(folder: Path, configs: list[dict], weights: WeightSet | None) -> Path:
    """The file that is there if these configurations, with weights of these shapes, were built."""
    files = [folder / file for file in weights.files] if weights else []
    shapes = [read_shapes(path) for path in files if path.suffix == ".safetensors"]
    sizes = [path.stat().st_size for path in files]
    about = [_GATE, folder.name, _versions(), configs, sizes, shapes]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return user_cache() / "built" / digest


@cache
def _versions() -> list[str]:
    return [version(library) for library in ("torch", "diffusers", "transformers")]


def _name(value: Any) -> str:
    """A name or number as it may be shown, whatever was written in its place."""
    return value if isinstance(value, str) and value.isidentifier() else repr(value)[:80]


def _check_kind(path: Path) -> None:
    """Refuse another model family with one sentence that names it."""
    advice = "which is unsupported; this project runs AudioLDM2 only: give mini, cvssp/audioldm2"
    advice += " or one like them"
    if (path / "model_index.json").is_file():
        kind = _name(read_json(path / "model_index.json").get("_class_name", "nameless"))
        if kind != "AudioLDM2Pipeline":
            kind = "an AudioLDM 1" if kind == "AudioLDMPipeline" else f"a {kind}"
            raise UserError(f"{path} is {kind} checkpoint, {advice}")
    elif not any((path / name).is_dir() for name in COMPONENTS):
        raise UserError(
            f"{path} is not a checkpoint (neither model_index.json nor a component's folder):"
            " give a folder in diffusers layout"
        )
    if (path / "unet" / "config.json").is_file():
        kind = _name(read_json(path / "unet" / "config.json").get("_class_name"))
        if kind != "AudioLDM2UNet2DConditionModel":
            raise UserError(f"the unet of {path} is a {kind}, as AudioLDM 1 has, {advice}")


def _check_geometry(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse a component whose shapes are not AudioLDM2's, before its weights are read."""
    name, mel, found = file.parent.name, MelConfig(), dict(config)
    if name == "scheduler":
        _check_schedule(file, config)
        return
    if name == "vae":
        factor = config.get("scaling_factor")
        if factor is None:
            raise UserError(f"{file} has no scaling_factor: add it")
        if factor <= 0:
            raise UserError(
                f"{file} has a scaling_factor of {factor}: it must be positive (1 over the latents'"
                " standard deviation)"
            )
        found["downsampling"] = 2 ** (len(config.get("block_out_channels", ())) - 1)
        wanted = {"in_channels": 1, "out_channels": 1, "latent_channels": 8, "downsampling": 4}
    elif name == "vocoder":
        found["product of upsample_rates"] = math.prod(config.get("upsample_rates", ()))
        wanted = {"model_in_dim": mel.n_mels, "sampling_rate": mel.sample_rate}
        wanted["product of upsample_rates"] = mel.hop_length
    elif name == "unet":
        wanted = {"in_channels": 8, "out_channels": 8}
    elif name == "text_encoder_2":
        wanted = {"model_type": "t5"}
    else:
        return
    wrong = [
        f"{key} {_name(found.get(key))} (not {right})"
        for key, right in wanted.items()
        if found.get(key) != right
    ]
    if wrong:
        raise UserError(
            f"the {name} of {file.parents[1]} does not fit AudioLDM2's front end of {mel.n_mels}"
            f" mel bands at {mel.sample_rate} Hz, hop {mel.hop_length}: {', '.join(wrong)}; give a"
            " checkpoint of AudioLDM2's geometry"
        )


def _check_schedule(file: Path, config: Mapping[str, Any]) -> None:
    try:
        curve = training_alphas_bar(config)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise refusal(file.parent, config.get("_class_name", "DDIMScheduler"), error) from error
    if not (len(curve) and np.isfinite(curve).all() and (np.diff(curve, prepend=1) < 0).all()):
        raise UserError(
            f"the betas of {file} are no noise schedule (each must lie between 0 and 1):"
            " correct or copy it again"
        )


def check_types(folder: Path, kind: type, config: Mapping[str, Any]) -> None:
    """Refuse entries of another type than the class's constructor takes, and absurd numbers.

    What lists hold is left to :func:`check_build`. The UserError names the entry.
    """
    for key, value in _numbers(config):
        if abs(value) > _LARGEST or (value < 0 and not key.endswith(_SIGNED)):
            said = f"{key} is {shown(value)}, which no AudioLDM2 has"
            raise refusal(folder, kind.__name__, said)
    if hasattr(kind, "config_class") and not hasattr(kind, "load_config"):  # of transformers
        try:
            kind.config_class.from_dict(dict(config))
        except Exception as error:
            raise refusal(folder, kind.__name__, error) from error
        return
    for name, parameter in inspect.signature(kind.__init__, eval_str=True).parameters.items():
        if name not in config or name == "sample_size":  # of which published files have two
            continue
        asked, value = parameter.annotation, config[name]
        union = typing.get_origin(asked) in (typing.Union, types.UnionType)
        kinds = typing.get_args(asked) if union else (asked,)
        if isinstance(parameter.default, tuple):
            kinds = (list,)
        right = type(value) in kinds or (float in kinds and type(value) is int)
        if not right and all(one in _WORDS for one in kinds):
            said = f"{name} is {shown(value)}, not {' or '.join(_WORDS[one] for one in kinds)}"
            raise refusal(folder, kind.__name__, said)


def _numbers(content: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a configuration with the entry that it stands in."""
    if isinstance(content, Mapping | list):
        pairs = content.items() if isinstance(content, Mapping) else ((key, v) for v in content)
        for name, value in pairs:
            yield from _numbers(value, name)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield key, content


def check_build(
    folder: Path, kind: type, config: Mapping[str, Any], weights: WeightSet | None
) -> None:
    """Build a component without memory, call it, and compare it with the headers of its weights.

    UserError if it cannot be built or called, is far larger than its weights, or of other shapes.
    """
    files = [folder / file for file in weights.files] if weights else []
    try:
        with _quiet_diffusers(), _bounded(sum(file.stat().st_size for file in files)):
            network = _built(folder.name, kind, dict(config))
    except Exception as error:
        said = f"its configuration gives none that works ({error})"
        raise refusal(folder, kind.__name__, said) from error
    if network is None or weights.format != "safetensors":
        return
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    prefix = getattr(network, "base_model_prefix", "")  # files may leave it out of the names
    for file in files:
        for name, shape in read_shapes(file).items():
            own = shapes.get(name, shapes.get(f"{prefix}.{name}", shape))
            if own != shape:
                said = f"by its config.json {name} has the shape {list(own)}, in its weights"
                raise refusal(folder, kind.__name__, f"{said} {list(shape)}")


def _built(name: str, kind: type, config: dict[str, Any]) -> torch.nn.Module | None:
    """A network that was called once, without memory; None for a scheduler; or any error."""
    if name == "scheduler":
        kind.from_config(config)
        return None
    with torch.device("meta"), torch.inference_mode():
        if hasattr(kind, "load_config"):
            network = kind.from_config(config)
        else:
            network = kind(kind.config_class.from_dict(config))
        _call(name, network.eval(), config)
    return network


def _call(name: str, network: torch.nn.Module, config: Mapping[str, Any]) -> None:
    """Call a network as this project does; any error, or ValueError for a result's shape."""
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
