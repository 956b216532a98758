"""Whether a folder holds an AudioLDM2 checkpoint; one of another family is named and refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audioldm_utils.checkpoint_files import COMPONENTS, read_json
from audioldm_utils.errors import UserError
from audioldm_utils.mel import MelConfig


def check_kind(path: Path) -> None:
    """Refuse another model family with one sentence that names it."""
    advice = "this project runs AudioLDM2 only: give mini, cvssp/audioldm2 or one like them"
    if (path / "model_index.json").is_file():
        kind = str(read_json(path / "model_index.json").get("_class_name", "nameless"))
        if kind == "AudioLDMPipeline":
            raise UserError(f"{path} is an AudioLDM 1 checkpoint, which is unsupported; {advice}")
        if kind != "AudioLDM2Pipeline":
            raise UserError(f"{path} is a {kind} checkpoint, which is unsupported; {advice}")
    elif not any((path / name).is_dir() for name in COMPONENTS):
        raise UserError(
            f"{path} is not a checkpoint (neither model_index.json nor a component's folder):"
            " give a folder in diffusers layout"
        )
    if (path / "unet" / "config.json").is_file():
        kind = str(read_json(path / "unet" / "config.json").get("_class_name"))
        if kind != "AudioLDM2UNet2DConditionModel":
            raise UserError(
                f"{path} has a {kind}, as AudioLDM 1 has, which is unsupported; {advice}"
            )


def check_geometry(name: str, config: Mapping[str, Any], path: Path, mel: MelConfig) -> None:
    """Refuse a component whose shapes are not AudioLDM2's, before its weights are read."""
    if name == "vae":
        found = {
            "in_channels": config.get("in_channels"),
            "out_channels": config.get("out_channels"),
            "latent_channels": config.get("latent_channels"),
            "downsampling": 2 ** (len(config.get("block_out_channels", ())) - 1),
        }
        wanted = {"in_channels": 1, "out_channels": 1, "latent_channels": 8, "downsampling": 4}
    elif name == "vocoder":
        found = {
            "model_in_dim": config.get("model_in_dim", 80),
            "sampling_rate": config.get("sampling_rate", 16000),
            "product of upsample_rates": math.prod(config.get("upsample_rates", (4, 4, 4, 4))),
        }
        wanted = {
            "model_in_dim": mel.n_mels,
            "sampling_rate": mel.sample_rate,
            "product of upsample_rates": mel.hop_length,
        }
    elif name == "unet":
        found = {key: config.get(key) for key in ("in_channels", "out_channels")}
        wanted = {"in_channels": 8, "out_channels": 8}
    elif name == "text_encoder_2":
        found = {"model_type": config.get("model_type")}
        wanted = {"model_type": "t5"}
    else:
        return
    wrong = [
        f"{key} {found[key]} (not {wanted[key]})" for key in wanted if found[key] != wanted[key]
    ]
    if wrong:
        raise UserError(
            f"the {name} of {path} does not fit AudioLDM2's front end of {mel.n_mels} mel bands at"
            f" {mel.sample_rate} Hz, hop {mel.hop_length}: {', '.join(wrong)}; give a checkpoint"
            " of AudioLDM2's geometry"
        )
