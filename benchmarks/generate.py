"""``generate`` beside the plain diffusers pipeline, same prompt, sampler, steps and seed.

    python benchmarks/generate.py --checkpoint mini --steps 20 --seconds 5.12 --runs 5

Process seconds of each, run in turn, and the ratio run by run (below 1: faster than plain).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

PROMPT = "a dog barking"


def process_seconds(function: Callable[[], object]) -> float:
    """Processor time of one call, all threads."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def main() -> None:
    """Print one line a run and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.12)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()

    from audioldm_utils.model.checkpoint import load
    from audioldm_utils.model.generation import generate
    from audioldm_utils.model.networks import Networks

    networks = Networks(load(args.checkpoint))
    plain = load(args.checkpoint).pipeline()
    plain.set_progress_bar_config(disable=True)

    def ours() -> None:
        generate(PROMPT, networks, steps=args.steps, seconds=args.seconds)

    def theirs() -> None:
        plain(PROMPT, num_inference_steps=args.steps, audio_length_in_s=args.seconds)

    ours(), theirs()
    ratios = []
    for _ in range(args.runs):
        first, second = process_seconds(ours), process_seconds(theirs)
        ratios.append(first / second)
        print(f"generate {first:.2f} s, plain diffusers {second:.2f} s, ratio {ratios[-1]:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
