"""What batching clips would gain DDCM, and whether their codes stay the same.

Clips of one length are encoded alone and in batches, in turns, on one thread, and so are the VAE
and the vocoder. A choice that differs sends all steps after it another way.

    python benchmarks/batching.py --clips 8 --steps 20 --out book/evidence/batching.csv
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import torch

from audioldm_utils.audio.clips import find_clips, load_clip, to_model_rate
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.model.networks import Networks


def main() -> None:
    """Print and write, by stage and batch: how many times as fast, and how many are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", default="data/audio")
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.56)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec = Codec(Networks(args.checkpoint))
    settings = Settings(kbps=None, steps=args.steps)
    files = find_clips(args.audio)[: args.clips]
    waves = [to_model_rate(load_clip(file, args.seconds)) for file in files]
    encoded = [codec.encode(wave, settings) for wave in waves]
    latents = torch.cat([one.latents for one in encoded])
    coder, *_ = codec.open(encoded[0].data)
    network = codec.networks.denoiser()
    mel = codec.networks.decode(latents)
    stages = {
        "DDCM": (latents, lambda x: coder.encode(x, network)),
        "VAE encode": (mel, codec.networks.encode),
        "VAE decode": (latents, codec.networks.decode),
        "vocoder": (mel, codec.networks.vocode),
    }
    rows = []
    for stage, (given, run) in stages.items():
        spent: dict[int, list[float]] = {}
        found: dict[int, torch.Tensor] = {}
        for _ in range(args.repeats):
            for size in (1, *args.batches):
                start = time.process_time()
                made = [run(part) for part in given.split(size)]
                spent.setdefault(size, []).append(time.process_time() - start)
                if stage == "DDCM":
                    made = [torch.stack(codes.choices, 1) for codes in made]
                found[size] = torch.cat(made)
        for size in args.batches:
            # The least of each: the rest is what other processes took of the caches.
            gain = min(spent[1]) / min(spent[size])
            pairs = zip(found[1], found[size], strict=True)
            same = sum(torch.equal(alone, batched) for alone, batched in pairs)
            rows.append((stage, size, f"{gain:.2f}", same, len(given)))
            print(*rows[-1], flush=True)
    if args.out:
        with args.out.open("w", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(("stage", "batch", "gain", "clips the same bit for bit", "clips"))
            writer.writerows(rows)


if __name__ == "__main__":
    main()
