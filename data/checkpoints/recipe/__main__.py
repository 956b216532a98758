"""Train and judge the shipped checkpoint.

Examples::

  python data/checkpoints/recipe all --data ../shared/audio --budget 120m --device auto
  python data/checkpoints/recipe vae --data ../shared/audio --work build/training --budget 40m
  python data/checkpoints/recipe export --data ../shared/audio --work build/training
  python data/checkpoints/recipe evaluate --data ../shared/audio --checkpoint mini
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that `recipe` is found

from audioldm_utils import bounds
from audioldm_utils.errors import UserError

#: Share of ``--budget`` that ``all`` gives to each component, in this order.
SHARES = {"vae": 0.13, "inverse": 0.07, "clap": 0.1, "vocoder": 0.2, "unet": 0.5}


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``python data/checkpoints/recipe``."""
    parser = argparse.ArgumentParser(
        prog="python data/checkpoints/recipe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "component", choices=[*SHARES, "all", "pca", "export", "evaluate", "snapshots"]
    )
    parser.add_argument("--data", type=Path, help="folder with train.csv and eval.csv")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/training"),
        help="states, logs and parts (default %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=Path("data/checkpoints/mini"))
    parser.add_argument("--checkpoint", default="mini", help="what evaluate judges")
    parser.add_argument(
        "--start",
        type=Path,
        help="checkpoint folder whose weights a component begins from (clap: its text branch is"
        " kept; inverse: the shipped weights)",
    )
    parser.add_argument(
        "--learning-rate", type=bounds.LEARNING_RATE, help="peak (default: the component's own)"
    )
    parser.add_argument(
        "--adversarial",
        action="store_true",
        help="vocoder: go on from the one in --work against discriminators",
    )
    parser.add_argument("--budget", default="120m", help="such as 90s, 120m, 2h")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--seed", type=bounds.SEED, default=0)
    parser.add_argument("--threads", type=bounds.PROCESSES, help="CPU threads (default: all)")
    parser.add_argument("--figures", nargs="*", help="which of evaluate's figures (default: all)")
    return parser


def train(args: argparse.Namespace, component: str, budget: float, device: str) -> None:
    """Train one component."""
    if component == "vae":
        from recipe.vae import train_vae as run
    elif component == "vocoder":
        from recipe.vocoder import train_vocoder as run
    elif component == "inverse":
        from recipe.inverse import train_inverse as run
    elif component == "clap":
        from recipe.clap import train_clap as run
    else:
        from recipe.unet import train_unet as run
    more = {}
    if args.start:
        more["start"] = args.start
    if args.adversarial:
        if component != "vocoder":
            raise UserError("--adversarial goes with the vocoder")
        more["adversarial"] = True
    if args.learning_rate:
        more["learning_rate"] = args.learning_rate
    run(args.data, args.work, budget, seed=args.seed, device=device, **more)


def main() -> int:
    """Run the command; user errors become one sentence and exit status 2."""
    args = build_parser().parse_args()
    try:
        import torch

        from recipe.loop import parse_budget

        if args.threads:
            torch.set_num_threads(args.threads)
        device = args.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if args.data is None:
            raise UserError("--data is missing: name the folder that holds train.csv and eval.csv")
        if args.component == "export":
            from recipe.export import export

            print(f"{args.out}: {export(args.work, args.out, args.data) / 2**20:.1f} MiB")
            return 0
        if args.component == "pca":
            from recipe.pca import fit_pca

            print(f"{args.work}/pca.safetensors: {fit_pca(args.data, args.work):.4f} nat on tune")
            return 0
        if args.component == "evaluate":
            from recipe.evaluate import evaluate

            evaluate(args.data, args.checkpoint, args.out, args.figures, seed=args.seed)
            return 0
        if args.component == "snapshots":
            from recipe.snapshots import snapshots

            snapshots(args.data, args.work, args.checkpoint, args.out)
            return 0
        budget = parse_budget(args.budget)
        names = list(SHARES) if args.component == "all" else [args.component]
        for name in names:
            share = SHARES[name] if args.component == "all" else 1.0
            train(args, name, budget * share, device)
        if args.component == "all":
            from recipe.export import export

            export(args.work, args.out, args.data)
    except (UserError, FileNotFoundError) as error:
        print(f"training: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
