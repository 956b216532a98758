"""The gate of checkpoints: what is wrong with one is said before anything heavy is loaded.

Whether a folder holds an AudioLDM2 checkpoint at all (another family is named), whether all of
its components are whole, and whether their configurations can be built. Only whether the
weights are finite is seen on loading them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from audioldm_utils.errors import UserError
from audioldm_utils.files import user_cache
from audioldm_utils.model.checkpoint_build import check_build, check_types, component_class, refusal
from audioldm_utils.model.checkpoint_files import COMPONENTS, check_component, read_json
from audioldm_utils.model.checkpoint_weights import WeightSet, read_shapes
from audioldm_utils.model.mel import MelConfig
from audioldm_utils.model.schedule import training_alphas_bar

# Of what is checked: a stricter gate asks again.
_GATE = 1


def check_checkpoint(path: Path, mel: MelConfig, half: Callable[[str], bool]) -> None:
    """Refuse a checkpoint of which any component that is there cannot be used.

    A component that is not there is missed by those who need it.

    Args:
        path: folder of the checkpoint.
        mel: the front end that it must fit.
        half: whether a component of that name is loaded in half precision.

    Raises:
        UserError: one sentence with the checkpoint, the component and what is wrong.
    """
    _check_kind(path)
    for name in COMPONENTS:
        if (path / name).is_dir():
            weights = check_component(path / name, half(name))
            _check_configurations(path / name, weights, mel)


def _check_configurations(folder: Path, weights: WeightSet | None, mel: MelConfig) -> None:
    """Refuse configurations that do not fit the component's class, AudioLDM2 or its weights.

    That they can be built is noted in the user's cache, since asking the libraries takes seconds.
    """
    name = folder.name
    built = weights is not None or name == "scheduler"
    file = "scheduler_config.json" if name == "scheduler" else "config.json"
    paths = [folder / file] if built else sorted(folder.glob("*_config.json"))
    configs = {path: read_json(path) for path in paths}
    note = _note(folder, list(configs.values()), weights)
    kind = None if note.exists() else component_class(name, folder)
    for path, config in configs.items():
        if kind is not None:
            check_types(folder, kind, config)
        if built:
            _check_geometry(path, config, mel)
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


def _check_geometry(file: Path, config: Mapping[str, Any], mel: MelConfig) -> None:
    """Refuse a component whose shapes are not AudioLDM2's, before its weights are read."""
    name = file.parent.name
    if name == "scheduler":
        _check_schedule(file, config)
        return
    if name == "vae":
        _check_scaling(file, config.get("scaling_factor"))
        found = {key: config.get(key) for key in ("in_channels", "out_channels", "latent_channels")}
        found["downsampling"] = 2 ** (len(config.get("block_out_channels", ())) - 1)
        wanted = {"in_channels": 1, "out_channels": 1, "latent_channels": 8, "downsampling": 4}
    elif name == "vocoder":
        rates = config.get("upsample_rates", (4, 4, 4, 4))
        found = {
            "model_in_dim": config.get("model_in_dim", 80),
            "sampling_rate": config.get("sampling_rate", 16000),
            "product of upsample_rates": math.prod(rates),
        }
        wanted = dict(zip(found, (mel.n_mels, mel.sample_rate, mel.hop_length), strict=True))
    elif name == "unet":
        found = {key: config.get(key) for key in ("in_channels", "out_channels")}
        wanted = dict.fromkeys(found, 8)
    elif name == "text_encoder_2":
        found, wanted = {"model_type": config.get("model_type")}, {"model_type": "t5"}
    else:
        return
    pairs = [(key, _name(found[key]), wanted[key]) for key in wanted if found[key] != wanted[key]]
    if pairs:
        wrong = ", ".join(f"{key} {own} (not {right})" for key, own, right in pairs)
        raise UserError(
            f"the {name} of {file.parents[1]} does not fit AudioLDM2's front end of {mel.n_mels}"
            f" mel bands at {mel.sample_rate} Hz, hop {mel.hop_length}: {wrong}; give a checkpoint"
            " of AudioLDM2's geometry"
        )


def _check_scaling(file: Path, factor: float | None) -> None:
    if factor is None:
        raise UserError(f"{file} has no scaling_factor: add it")
    if factor <= 0:
        raise UserError(
            f"{file} has a scaling_factor of {factor}: it must be positive (1 over the latents'"
            " standard deviation)"
        )


def _check_schedule(file: Path, config: Mapping[str, Any]) -> None:
    try:
        curve = training_alphas_bar(config)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        kind = config.get("_class_name", "DDIMScheduler")
        raise refusal(file.parent, kind, error) from error
    if not (len(curve) and np.isfinite(curve).all() and (np.diff(curve, prepend=1) < 0).all()):
        raise UserError(
            f"the betas of {file} are no noise schedule (each must lie between 0 and 1):"
            " correct or copy it again"
        )
