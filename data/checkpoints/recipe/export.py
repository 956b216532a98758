"""From trained parts to a checkpoint folder in the standard diffusers layout."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from audioldm_utils.files import atomic_path, atomic_write
from recipe.card import write_tables
from recipe.unet import assemble

#: Hub metadata and the part of the card that no run decides.
_CARD = """---
library_name: diffusers
pipeline_tag: text-to-audio
license: cc-by-4.0
---

# mini: a small AudioLDM2

A text-to-audio model in the layout and with the front end of AudioLDM2 (64 mel bands at
16 kHz, 8 latent channels at a quarter of both resolutions, GPT-2 and T5 conditioning), small
enough to lie in a repository and to run on two cores. It exists to make the methods of this
project measurable without a download. It is no stand-in for the published weights: it was
trained on {minutes:.0f} minutes of sound on a CPU, and knows only the kinds of sound listed below.

```python
from diffusers import AudioLDM2Pipeline

pipe = AudioLDM2Pipeline.from_pretrained("data/checkpoints/mini")
audio = pipe("a dog barking", audio_length_in_s=5.12, num_inference_steps=50).audios[0]
```

## Size

| component | parameters |
|---|---|
{parameters}

Weights are stored in half precision and load in single precision.

## Training data

{clips} clips of openly licensed recordings at 16 kHz, none of them in the eval set. Every
clip's source, author and licence is in [ATTRIBUTION.csv](ATTRIBUTION.csv).

| licence | clips |
|---|---|
{licences}

| class | clips |
|---|---|
{classes}

## Recipe

`python data/checkpoints/recipe all`; seconds and optimiser steps of each component as run
(a name with a number: begun from the weights of the run before, `--start`):

| component | seconds | steps |
|---|---|---|
{effort}
"""


def earlier_effort(card: Path) -> dict[str, tuple[str, ...]]:
    """Rows of the effort table of the card that is there: training may have begun from it."""
    if not card.exists():
        return {}
    _, _, table = card.read_text(encoding="utf-8").partition("| component | seconds | steps |")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if " | " in line]
    return {name: tuple(pair) for name, *pair in rows}


def write_card(folder: Path, out: Path, data: Path, pipe: Any) -> None:
    """Model card and attribution, from the data's tables and the training logs."""
    import pandas as pd

    table = pd.read_csv(data / "train.csv").merge(
        pd.read_csv(data / "train_meta.csv")[["file", "author", "url"]], on="file"
    )
    chosen = ["file", "class", "source_repo", "source_path", "author", "url", "licence"]
    with atomic_path(out / "ATTRIBUTION.csv") as temporary:
        table[chosen].to_csv(temporary, index=False)
    effort = earlier_effort(out / "README.md")
    for log in sorted(folder.glob("*.csv")):
        last = pd.read_csv(log, names=["step", "seconds", "key", "value"])
        effort[log.stem] = (f"{last['seconds'].max():.0f}", f"{last['step'].max()}")
    parameters = [
        (name, f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M")
        for name, module in pipe.components.items()
        if isinstance(module, torch.nn.Module)
    ]

    def rows(pairs: Iterable[tuple[Any, ...]]) -> str:
        return "\n".join(f"| {' | '.join(map(str, pair))} |" for pair in pairs)

    card = _CARD.format(
        minutes=table["seconds"].sum() / 60,
        parameters=rows(parameters),
        clips=len(table),
        licences=rows(table["licence"].value_counts().items()),
        classes=rows(table["class"].value_counts().items()),
        effort=rows((name, *pair) for name, pair in effort.items()),
    )
    atomic_write(out / "README.md", card)


def export(folder: str | Path, out: str | Path, data: str | Path) -> int:
    """Write ``AudioLDM2Pipeline``'s folder from the parts that training left in ``folder``.

    Weights are stored in half precision. The configurations say float32, so that plain
    ``from_pretrained`` computes in single precision, which CPUs need.

    Returns:
        Bytes of all files written.
    """
    from diffusers import AudioLDM2UNet2DConditionModel, DDIMScheduler
    from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
    from transformers import GPT2LMHeadModel, T5EncoderModel

    folder, out, data = Path(folder), Path(out), Path(data)
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
    write_card(folder, out, data, pipe)
    write_tables(folder, out, data)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
