"""What becomes of a ``.ddcm`` file that is decoded otherwise than it was encoded.

    python benchmarks/ddcm_drift.py --checkpoint mini --audio data/audio --clips 4

Each clip is encoded alone, then decoded as it was, with another number of threads, in a batch
of three, and on a GPU where there is one. Told are the largest difference of the latents, the
correlation of both, and what it does to the log-mel (natural logarithm, mean absolute), beside
the codec's own log-mel error against the VAE's output.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import torch

from audioldm_utils.audio import load_folder, to_model_rate
from audioldm_utils.checkpoint import load
from audioldm_utils.ddcm import Codes
from audioldm_utils.ddcm.codec import Codec, Encoded
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.stages import Stages


def replay(codec: Codec, encoded: Encoded, batch: int = 1) -> torch.Tensor:
    """Latents (1, 8, frames, 16) decoded in a batch of copies."""
    coder, codes, header, _ = codec.open(encoded.data)
    choices = tuple(choice.repeat(batch, 1) for choice in codes.choices)
    many = Codes(choices, codes.shape, torch.zeros(batch, *codes.shape))
    denoiser = codec.stages.denoiser(None)
    start = coder.start(batch, codes.shape).to(codec.stages.device)
    if header.prompt is not None or codes.shape[1] > 256:
        raise SystemExit("drift is measured without a prompt and on clips of up to 10 s")
    return coder.decode(many, denoiser, start=start)[:1].cpu()


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--audio", default="data/audio")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--kbps", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()
    codec = Codec(Stages(load(args.checkpoint, ())))
    settings = replace(Settings(), kbps=args.kbps, steps=args.steps)
    threads = torch.get_num_threads()
    rows: dict[str, list[tuple[float, float, float]]] = {}
    floor = []
    for clip in load_folder(args.audio, args.clips, args.seconds):
        encoded = codec.encode(to_model_rate(clip), settings)
        own = encoded.codes.latents
        mel = codec.stages.decode(own)
        floor.append(float((mel - codec.stages.decode(encoded.latents)).abs().mean()))
        ways = {"as encoded": replay(codec, encoded)}
        torch.set_num_threads(2 if threads == 1 else 1)
        ways["other number of threads"] = replay(codec, encoded)
        torch.set_num_threads(threads)
        ways["batch of 3"] = replay(codec, encoded, 3)
        if torch.cuda.is_available():
            other = Codec(Stages(load(args.checkpoint, (), "cuda")))
            ways["GPU"] = replay(other, encoded)
        for name, latents in ways.items():
            pair = torch.corrcoef(torch.stack([latents.flatten(), own.cpu().flatten()]))
            change = float((codec.stages.decode(latents) - mel).abs().mean())
            worst = float((latents - own.cpu()).abs().max())
            rows.setdefault(name, []).append((worst, float(pair[0, 1]), change))
    print(
        json.dumps(
            {
                "clips": len(floor),
                "log-mel error of the codec itself, nat": sum(floor) / len(floor),
                **{
                    name: {
                        "largest difference of latents": max(row[0] for row in found),
                        "lowest correlation": min(row[1] for row in found),
                        "largest log-mel change, nat": max(row[2] for row in found),
                    }
                    for name, found in rows.items()
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
