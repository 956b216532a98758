"""What becomes of a ``.ddcm`` file that is decoded otherwise than it was encoded.

    python benchmarks/ddcm_drift.py --checkpoint mini --audio data/audio --clips 4
        [--out book/evidence/ddcm_drift.json]

Each clip is encoded alone, then decoded as it was, with another number of threads, in a batch
of three, and on a GPU where there is one. Told are the largest difference of the latents, the
correlation of both, and what it does to the log-mel (dB, mean absolute), beside the codec's own
log-mel error against the VAE's output.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from audioldm_utils.audio.clips import find_clips, to_model_rate
from audioldm_utils.audio.survey import loaded
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.files import atomic_write
from audioldm_utils.metrics import DB_PER_NAT
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Networks
from audioldm_utils.studies.streams import replay


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--audio", default="data/audio")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--kbps", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, help="JSON file to write as well")
    args = parser.parse_args()
    codec = Codec(Networks(load(args.checkpoint, ())))
    settings = replace(Settings(), kbps=args.kbps, steps=args.steps)
    threads = torch.get_num_threads()
    rows: dict[str, list[tuple[float, float, float]]] = {}
    floor = []
    for clip in loaded(find_clips(args.audio)[: args.clips], args.seconds):
        encoded = codec.encode(to_model_rate(clip), settings)
        own = encoded.codes.latents
        mel = codec.networks.decode(own)
        floor.append(float((mel - codec.networks.decode(encoded.latents)).abs().mean()))
        ways = {"as encoded": replay(codec, encoded.data)}
        torch.set_num_threads(2 if threads == 1 else 1)
        ways["other number of threads"] = replay(codec, encoded.data)
        torch.set_num_threads(threads)
        ways["batch of 3"] = replay(codec, encoded.data, 3)
        if torch.cuda.is_available():
            other = Codec(Networks(load(args.checkpoint, (), "cuda")))
            ways["GPU"] = replay(other, encoded.data)
        for name, latents in ways.items():
            pair = torch.corrcoef(torch.stack([latents.flatten(), own.cpu().flatten()]))
            change = float((codec.networks.decode(latents) - mel).abs().mean())
            worst = float((latents - own.cpu()).abs().max())
            rows.setdefault(name, []).append((worst, float(pair[0, 1]), change))
    found = {
        "checkpoint": codec.networks.checkpoint.fingerprint,
        "clips": len(floor),
        "kbps": args.kbps,
        "steps": args.steps,
        "codec's own error, dB": DB_PER_NAT * sum(floor) / len(floor),
        "ways": {
            name: {
                "largest difference of latents": max(row[0] for row in values),
                "lowest correlation": min(row[1] for row in values),
                "largest log-mel change, dB": DB_PER_NAT * max(row[2] for row in values),
            }
            for name, values in rows.items()
        },
    }
    text = json.dumps(found, indent=2)
    print(text)
    if args.out:
        atomic_write(args.out, text + "\n")


if __name__ == "__main__":
    main()
