"""What streaming costs: difference from one pass, latency, and real-time factor.

    python benchmarks/streaming.py [--audio data/audio] [--clips 16] [--out book/evidence]

Each clip is fed in pieces of 20 ms, at a fixed level, through VAE and vocoder in blocks of
several lengths, and some through DDCM's encoder and decoder. Writes ``streaming.csv`` (keys
and texts for the guide, with the numbers behind them), ``streaming.json`` (provenance) and
``streaming/`` (what one clip sounds like). About three minutes of one core.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from audioldm_utils.audio.clips import find_clips, load_clip, to_model_rate
from audioldm_utils.ddcm import stream as ddcm
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.files import PAGE_VARIABLE, atomic_write
from audioldm_utils.metrics import evaluate_pair
from audioldm_utils.model import streaming
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import PEAK, Networks
from audioldm_utils.results.evidence import provenance

CHUNK = 320
BLOCKS = ((0.64, 0.16), (1.28, 0.32), (2.56, 0.64))
#: The block of the command's default, which the guide speaks of and lets hear.
DEFAULT = 1.28
#: Of DDCM, since an ordinary setting of fifty steps is far from real time on a processor.
CODED, STEPS, KBPS = 3, 10, 1.0


def distance(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Log-mel distance, dB."""
    (score,) = evaluate_pair(reference, estimate, 16000, names=["log_mel_distance"])
    return score.value


def feed(
    samples: np.ndarray, push: Callable[[np.ndarray], int]
) -> Iterator[tuple[int, int, float]]:
    """Piece by piece: samples in, samples out so far, seconds that the piece took."""
    given = 0
    for start in range(0, len(samples), CHUNK):
        piece = samples[start : start + CHUNK]
        begin = time.perf_counter()
        given += push(piece)
        yield start + len(piece), given, time.perf_counter() - begin


def run_blocks(samples: np.ndarray, networks: Networks, peak: float) -> dict[str, object]:
    """One clip through a stream of such blocks."""
    stream = streaming.Reconstructor(networks, peak)
    made: list[np.ndarray] = []

    def push(piece: np.ndarray) -> int:
        made.append(stream.push(piece))
        return len(made[-1])

    latency, slowest, busy, given = 0, 0.0, 0.0, 0
    before = time.process_time()
    for taken, now, seconds in feed(samples, push):
        if now > given:
            # The first of the samples that came out has waited longest.
            latency = max(latency, taken - given)
        given, slowest, busy = now, max(slowest, seconds), busy + seconds
    begin = time.perf_counter()
    made.append(stream.finish())
    busy += time.perf_counter() - begin
    processor = time.process_time() - before
    audio = np.concatenate(made)
    whole = streaming.offline(networks, samples, peak)
    return {
        "audio": audio,
        "equal": float(np.abs(audio - whole).max()),
        "latency": latency / 16000,
        "slowest": slowest,
        "factor": busy / (len(samples) / 16000),
        "processor": processor / (len(samples) / 16000),
    }


def run_ddcm(samples: np.ndarray, networks: Networks, peak: float) -> dict[str, float]:
    """One clip through DDCM's encoder and decoder, block by block."""
    settings, seconds = Settings(kbps=KBPS, steps=STEPS), len(samples) / 16000
    encoder = ddcm.Encoder(networks, settings, peak)
    begin = time.perf_counter()
    data = b"".join(
        [encoder.push(samples[i : i + CHUNK]) for i in range(0, len(samples), CHUNK)]
        + [encoder.finish()]
    )
    middle = time.perf_counter()
    audio = np.concatenate(list(ddcm.decode_stream(io.BytesIO(data).read, networks)))
    end = time.perf_counter()
    return {
        "equal": float(np.abs(audio - ddcm.offline(networks, samples, settings, peak)).max()),
        "encode": (middle - begin) / seconds,
        "decode": (end - middle) / seconds,
        "kbps": len(data) * 8 / 1000 / seconds,
    }


def listen(name: str, takes: dict[str, np.ndarray], folder: Path) -> None:
    """Players of one clip, their files beside them, addressed as pages of the book do."""
    from audioldm_utils.book.listening import Row, Take, players

    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch) / "results" / "evidence" / "streaming"
        os.environ[PAGE_VARIABLE] = str(Path(scratch) / "guides")
        looks = {"16 kHz original": "original"}
        row = Row(name, [Take(looks.get(k, "vae"), v, 16000, k) for k, v in takes.items()])
        shown = players([row], files, "One clip in one pass and in blocks.", audio_format="mp3")
        atomic_write(files / "players.html", shown.data)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(files, folder)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", default="data/audio")
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.24, help="of each clip, at most")
    parser.add_argument("--out", type=Path, default=Path("book/evidence"))
    args = parser.parse_args()
    base = Networks(load(args.checkpoint, ()), window=None)
    infos = find_clips(args.audio)[: args.clips]
    found: dict[str, list[float]] = {}

    def note(key: str, value: float) -> None:
        found.setdefault(key, []).append(value)

    for number, info in enumerate(infos):
        samples = to_model_rate(load_clip(info, args.seconds))
        # A peak of the clip's own, so that one pass and blocks differ in nothing but blocks.
        peak = float(np.abs(samples).max())
        with torch.no_grad():
            mel = base.to_mel(torch.from_numpy(samples)[None] * (PEAK / peak))
            whole = base.vocode(base.decode(base.encode(mel)))[0, : len(samples)]
        once = (whole * (peak / PEAK)).numpy()
        note("once_loss", distance(samples, once))
        takes = {"16 kHz original": samples, "one pass": once}
        for window, overlap in BLOCKS:
            networks = streaming.block_networks(base, window, overlap)
            result = run_blocks(samples, networks, peak)
            audio, mark = result.pop("audio"), f"{window:g}"
            for name, value in result.items():
                note(f"{name}_{mark}", value)
            note(f"loss_{mark}", distance(samples, audio))
            note(f"change_{mark}", distance(once, audio))
            note(f"added_{mark}", found[f"loss_{mark}"][-1] - found["once_loss"][-1])
            if window == DEFAULT:
                takes[f"blocks of {window:g} s"] = audio
        if number < CODED:
            networks = streaming.block_networks(base, DEFAULT, DEFAULT / 4)
            for name, value in run_ddcm(samples[: 16000 * 5], networks, peak).items():
                note(f"ddcm_{name}", value)
        if number == 0:
            listen(info.name, takes, args.out / "streaming")
        print(f"{number + 1} of {len(infos)}: {info.name}", flush=True)
    write(found, args, [info.path for info in infos])


def write(found: dict[str, list[float]], args: argparse.Namespace, inputs: list[Path]) -> None:
    """The table and its sidecar."""
    worst = ("equal", "latency", "slowest", "ddcm_equal")
    forms = {"equal": (".0e", ""), "latency": (".2f", " s"), "slowest": (".2f", " s")}
    forms |= {
        "factor": (".2f", ""),
        "processor": (".2f", ""),
        "loss": (".2f", " dB"),
        "once": (".2f", " dB"),
    }
    forms |= {"change": (".2f", " dB"), "added": ("+.2f", " dB")}
    forms |= {"ddcm_equal": (".0e", ""), "ddcm_kbps": (".2f", " kbit/s"), "ddcm": (".2f", "")}
    rows = []
    for key, values in found.items():
        largest = key.startswith(worst)
        value = max(values) if largest else float(np.mean(values))
        form, unit = forms.get(key) or forms[key.split("_")[0]]
        how = "largest" if largest else "mean"
        rows.append((key, value, unit.strip(), how, len(values), f"{value:{form}}{unit}"))
    threads = torch.get_num_threads()
    for key, value in (
        ("n", len(inputs)), ("threads", threads), ("ddcm_n", min(CODED, len(inputs))),
        ("ddcm_steps", STEPS),
    ):  # fmt: skip
        rows.append((key, value, "", "count", 1, str(value)))
    rows.append(("checkpoint", 0, "", "name", 1, str(args.checkpoint)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("key", "value", "unit", "aggregate", "n", "text"))
    writer.writerows(rows)
    atomic_write(args.out / "streaming.csv", text.getvalue())
    fingerprint = load(args.checkpoint).fingerprint
    record = provenance("python benchmarks/streaming.py", inputs, checkpoint=fingerprint)
    atomic_write(args.out / "streaming.json", json.dumps(record, indent=1, sort_keys=True) + "\n")
    for key, *_, shown in rows:
        print(f"{key:20}{shown}")


if __name__ == "__main__":
    main()
