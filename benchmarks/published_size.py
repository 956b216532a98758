"""The published architecture at full size with random weights: seconds a stage and memory.

Builds a checkpoint of the size and layout of ``cvssp/audioldm2`` (weights cannot be had
offline; time and memory do not depend on them), then runs the same work in one process
each: plain diffusers in float32, this package in float32, and this package in bfloat16.

The work: embed a prompt, encode a clip, guided UNet steps (up to here it is what DDCM
encoding with a prompt does, and the first memory figure is taken), decode, vocode.

    python benchmarks/published_size.py --seconds 10.24 --out build/published_size.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Parameters in millions that the components must have, as in the published checkpoint.
PUBLISHED = {"unet": 346.94, "vae": 55.38, "vocoder": 55.26}
VARIANTS = ("plain-float32", "ours-float32", "ours-bfloat16")
PROMPT = "rain on a tin roof while a dog barks in the distance"


def build(folder: Path, seed: int = 0) -> None:
    """Write the published architecture with random weights, one component at a time."""
    import torch
    from diffusers import (
        AudioLDM2ProjectionModel,
        AudioLDM2UNet2DConditionModel,
        AutoencoderKL,
        DDIMScheduler,
    )
    from transformers import (
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        GPT2Config,
        GPT2Model,
        SpeechT5HifiGan,
        SpeechT5HifiGanConfig,
        T5Config,
        T5EncoderModel,
    )

    from tests import tiny

    torch.manual_seed(seed)
    gpt2 = GPT2Config()
    gpt2.max_new_tokens = 8
    blocks = ("DownBlock2D", *("CrossAttnDownBlock2D",) * 3)
    makers = {
        "vae": lambda: AutoencoderKL(
            in_channels=1,
            out_channels=1,
            latent_channels=8,
            block_out_channels=(128, 256, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            scaling_factor=0.4110932946205139,
        ),
        "vocoder": lambda: SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=64,
                sampling_rate=16000,
                upsample_initial_channel=1024,
                upsample_rates=[5, 4, 2, 2, 2],
                upsample_kernel_sizes=[16, 16, 8, 4, 4],
                resblock_kernel_sizes=[3, 7, 11],
                resblock_dilation_sizes=[[1, 3, 5]] * 3,
                normalize_before=False,
            )
        ),
        "unet": lambda: AudioLDM2UNet2DConditionModel(
            sample_size=(256, 16),
            in_channels=8,
            out_channels=8,
            block_out_channels=(128, 256, 384, 640),
            layers_per_block=2,
            attention_head_dim=(4, 8, 12, 20),
            down_block_types=blocks,
            up_block_types=tuple(block.replace("Down", "Up") for block in reversed(blocks)),
            cross_attention_dim=((None, 768, 1024),) * 4,
        ),
        "text_encoder": lambda: ClapModel(ClapConfig()),
        "text_encoder_2": lambda: T5EncoderModel(
            T5Config(
                d_model=1024,
                d_kv=64,
                d_ff=2816,
                num_layers=24,
                num_heads=16,
                feed_forward_proj="gated-gelu",
            )
        ),
        "language_model": lambda: GPT2Model(gpt2),
        "projection_model": lambda: AudioLDM2ProjectionModel(512, 1024, 768),
    }
    for name, make in makers.items():
        component = make().eval()
        count = sum(parameter.numel() for parameter in component.parameters()) / 1e6
        print(f"{name}: {count:.2f} M parameters", flush=True)
        if name in PUBLISHED and abs(count - PUBLISHED[name]) > 0.01:
            raise SystemExit(f"{name} should have {PUBLISHED[name]} M parameters")
        component.save_pretrained(folder / name)
        del component
    roberta, t5 = tiny.tokenizers()
    # Published lengths; the vocabularies are the tests' own, within the published sizes.
    roberta.model_max_length = t5.model_max_length = 512
    roberta.save_pretrained(folder / "tokenizer")
    t5.save_pretrained(folder / "tokenizer_2")
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder / "feature_extractor")
    DDIMScheduler(**tiny.SCHEDULER).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "AudioLDM2Pipeline",
        "vae": ["diffusers", "AutoencoderKL"],
        "vocoder": ["transformers", "SpeechT5HifiGan"],
        "unet": ["audioldm2", "AudioLDM2UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "ClapModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "language_model": ["transformers", "GPT2Model"],
        "projection_model": ["audioldm2", "AudioLDM2ProjectionModel"],
        "tokenizer": ["transformers", "RobertaTokenizerFast"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"],
        "feature_extractor": ["transformers", "ClapFeatureExtractor"],
    }
    # Written last: its presence says that the build is complete.
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


def peak_megabytes() -> float:
    """Largest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(variant: str, folder: Path, seconds: float, steps: int, arrays: Path) -> dict[str, float]:
    """Run one variant in this process; returns seconds (wall and CPU) and peaks in MB."""
    import numpy as np
    import torch

    figures: dict[str, float] = {}

    @contextmanager
    def timed(name: str, count: int = 1) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        for unit, spent in (
            ("wall s", (time.perf_counter() - wall) / count),
            ("CPU s", (time.process_time() - cpu) / count),
        ):
            figures[f"{name} {unit}"] = figures.get(f"{name} {unit}", 0.0) + spent

    random = torch.Generator().manual_seed(0)
    frames = round(seconds * 25) * 4
    mel = torch.randn((1, frames, 64), generator=random) * 2 - 6
    noise = torch.randn((1, 8, frames // 4, 16), generator=random)
    timesteps = np.linspace(981, 1, steps).round().astype(int).tolist()
    if variant == "plain-float32":
        from diffusers import AudioLDM2Pipeline
        from transformers import GPT2LMHeadModel

        with timed("load"), torch.no_grad():
            language_model = GPT2LMHeadModel.from_pretrained(folder / "language_model")
            pipe = AudioLDM2Pipeline.from_pretrained(folder, language_model=language_model)
        with torch.no_grad():
            with timed("embed"):
                t5, mask, generated = pipe.encode_prompt(PROMPT, "cpu", 1, True)
            with timed("encode"):
                scaling = pipe.vae.config.scaling_factor
                latents = pipe.vae.encode(mel[:, None]).latent_dist.mode() * scaling
            with timed("UNet step", steps):
                for t in timesteps:
                    output = pipe.unet(
                        torch.cat([noise, noise]),
                        t,
                        generated,
                        encoder_hidden_states_1=t5,
                        encoder_attention_mask_1=mask,
                    ).sample
                    without, towards = output.chunk(2)
                    output = without + 3.5 * (towards - without)
            figures["peak of encoding MB"] = peak_megabytes()
            with timed("decode"):
                decoded = pipe.vae.decode(latents / scaling).sample[:, 0]
            with timed("vocode"):
                pipe.vocoder(decoded)
    else:
        from audioldm_utils.model import checkpoint
        from audioldm_utils.model.networks import Networks

        dtype = getattr(torch, variant.removeprefix("ours-"))
        with timed("load"):
            networks = Networks(checkpoint.load(folder, checkpoint.TEXT_COMPONENTS, dtype=dtype))
        with timed("embed"):
            conditioning = networks.embed(PROMPT)
            networks.drop_text()
        with timed("load"):
            networks.checkpoint.part("vae")
        with timed("encode"):
            latents = networks.encode(mel)
        with timed("load"):
            denoiser = networks.denoiser(conditioning, 3.5)
        with timed("UNet step", steps):
            for t in timesteps:
                output = denoiser(noise, t)
        figures["peak of encoding MB"] = peak_megabytes()
        del denoiser
        networks.checkpoint.unload("unet")
        with timed("load"):
            networks.checkpoint.part("vocoder")
        with timed("decode"):
            decoded = networks.decode(latents)
        with timed("vocode"):
            networks.vocode(decoded)
    figures["peak MB"] = peak_megabytes()
    np.savez(arrays, latents=latents.numpy(), epsilon=output.numpy(), mel=decoded.numpy())
    return figures


def compare(arrays: dict[str, Path]) -> list[tuple[str, str, float]]:
    """Root-mean-square difference from plain float32, relative to its own size."""
    import numpy as np

    reference = np.load(arrays["plain-float32"])
    rows = []
    for variant, path in arrays.items():
        found = np.load(path)
        for name in reference.files:
            difference = np.sqrt(np.mean((found[name] - reference[name]) ** 2))
            rows.append((variant, f"{name} error", float(difference / reference[name].std())))
    return rows


def main() -> None:
    """Build if needed, run every variant in a process of its own, print and write a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("build/published"))
    parser.add_argument("--seconds", type=float, default=10.24, help="of audio")
    parser.add_argument("--steps", type=int, default=3, help="guided UNet steps timed")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--out", type=Path, default=Path("build/published_size.csv"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--arrays", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        import torch

        torch.set_num_threads(args.threads)
        figures = work(args.worker, args.folder, args.seconds, args.steps, args.arrays)
        print(json.dumps(figures))
        return
    if not (args.folder / "model_index.json").is_file():
        build(args.folder)
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    rows, arrays = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for variant in args.variants:
            arrays[variant] = Path(scratch) / f"{variant}.npz"
            command = [sys.executable, __file__, "--worker", variant, "--folder", str(args.folder)]
            command += ["--seconds", str(args.seconds), "--steps", str(args.steps)]
            command += ["--threads", str(args.threads), "--arrays", str(arrays[variant])]
            result = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            figures = json.loads(result.stdout.splitlines()[-1])
            rows += [(variant, name, value) for name, value in figures.items()]
            print(variant, json.dumps({k: round(v, 3) for k, v in figures.items()}), flush=True)
        if "plain-float32" in arrays:
            rows += compare(arrays)
            print(*rows[-3 * len(arrays) :], sep="\n")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("variant", "figure", "value", "audio seconds", "threads"))
        writer.writerows((*row, args.seconds, args.threads) for row in rows)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
