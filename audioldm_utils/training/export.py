"""From trained parts to a checkpoint folder in the standard diffusers layout."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from audioldm_utils.files import atomic_write
from audioldm_utils.training.unet import assemble


def export(folder: str | Path, out: str | Path) -> int:
    """Write ``AudioLDM2Pipeline``'s folder from the parts that training left in ``folder``.

    Weights are stored in half precision. The configurations say float32, so that plain
    ``from_pretrained`` computes in single precision, which CPUs need.

    Returns:
        Bytes of all files written.
    """
    from diffusers import AudioLDM2UNet2DConditionModel, DDIMScheduler
    from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
    from transformers import GPT2LMHeadModel, T5EncoderModel

    folder, out = Path(folder), Path(out)
    pipe = assemble(
        folder,
        unet=AudioLDM2UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        text_encoder_2=T5EncoderModel.from_pretrained(folder / "text_encoder_2"),
        language_model=GPT2LMHeadModel.from_pretrained(folder / "language_model"),
        projection_model=AudioLDM2ProjectionModel.from_pretrained(folder / "projection_model"),
    )
    pipe.to(torch.float16).save_pretrained(out, safe_serialization=True)
    for config in out.glob("*/config.json"):
        content = json.loads(config.read_text())
        if content.get("dtype") == "float16":
            content["dtype"] = "float32"
        # A model's own path on the machine that trained it is nobody's business.
        content.pop("_name_or_path", None)
        atomic_write(config, json.dumps(content, indent=2, sort_keys=True) + "\n")
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
