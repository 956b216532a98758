"""What streaming costs: difference from one pass, latency, and real-time factor.

    python benchmarks/streaming.py [--audio data/audio] [--clips 16] [--out book/evidence]

Each clip is fed in pieces of 20 ms, at a fixed level, through VAE and synthesis in blocks of
several lengths and by hops, and some through DDCM's encoder and decoder. Time is processor time
of one thread, so that other work on the machine does not count; the networks are loaded before.
Writes ``streaming.csv`` (keys and texts for the guide, with the numbers behind them),
``streaming.json`` (provenance) and ``streaming/`` (what one clip sounds like). About eight
minutes of one core.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from audioldm_utils.audio.clips import find_clips, load_clip, to_model_rate
from audioldm_utils.ddcm import stream as ddcm
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.files import PAGE_VARIABLE, atomic_write
from audioldm_utils.metrics import evaluate_pair
from audioldm_utils.model import hops, streaming
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import PEAK, Networks
from audioldm_utils.results.evidence import provenance

CHUNK = 320
BLOCKS = ((0.64, 0.16), (1.28, 0.32), (2.56, 0.64))
#: The block of the command's default, which the guide speaks of and lets hear.
DEFAULT = 1.28
#: Window, hop and look-ahead, seconds, the command's defaults last; by both ways of synthesis.
HOPS = ((0.64, 0.16, 0.04), (0.64, 0.16, 0.08), (0.96, 0.24, 0.08), (0.64, 0.16, 0.16))
WAYS = ("vocoder", "inverse")
#: Of DDCM, since an ordinary setting of fifty steps is far from real time on a processor.
CODED, STEPS, KBPS = 3, 10, 1.0


MEASURES = {"mel": "log_mel_distance", "stft": "multi_resolution_stft"}
Stream = streaming.Reconstructor | hops.Rolling


def distances(reference: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """Log-mel distance, dB, and multi-resolution STFT distance."""
    scores = evaluate_pair(reference, estimate, 16000, names=list(MEASURES.values()))
    return dict(zip(MEASURES, (score.value for score in scores), strict=True))


def run_stream(samples: np.ndarray, stream: Stream) -> tuple[np.ndarray, dict[str, float]]:
    """One clip through a stream: what it gives, and waiting, computing and factor."""
    made: list[np.ndarray] = []
    wait, slowest, begin = 0, 0.0, time.process_time()
    for start in range(0, len(samples), CHUNK):
        before = time.process_time()
        made.append(stream.push(samples[start : start + CHUNK]))
        slowest = max(slowest, time.process_time() - before)
        if len(made[-1]):
            # The first of the samples that came out has waited longest.
            wait = max(wait, stream.taken - stream.given + len(made[-1]))
    made.append(stream.finish())
    factor = (time.process_time() - begin) / (len(samples) / 16000)
    wait = wait / 16000
    found = {"wait": wait, "slowest": slowest, "latency": wait + slowest, "factor": factor}
    return np.concatenate(made), found


def run_ddcm(samples: np.ndarray, networks: Networks, peak: float) -> dict[str, float]:
    """One clip through DDCM's encoder and decoder, block by block."""
    settings, seconds = Settings(kbps=KBPS, steps=STEPS), len(samples) / 16000
    encoder = ddcm.Encoder(networks, settings, peak)
    begin = time.process_time()
    data = b"".join(
        [encoder.push(samples[i : i + CHUNK]) for i in range(0, len(samples), CHUNK)]
        + [encoder.finish()]
    )
    middle = time.process_time()
    audio = np.concatenate(list(ddcm.decode_stream(io.BytesIO(data).read, networks)))
    end = time.process_time()
    return {
        "equal": float(np.abs(audio - ddcm.offline(networks, samples, settings, peak)).max()),
        "encode": (middle - begin) / seconds,
        "decode": (end - middle) / seconds,
        "kbps": len(data) * 8 / 1000 / seconds,
    }


def measure(
    samples: np.ndarray, peak: float, bases: dict[str, Networks], found: dict[str, list[float]]
) -> dict[str, np.ndarray]:
    """One clip in one pass, in blocks and by hops: numbers into ``found``, sounds to listen to."""
    takes = {"16 kHz original": samples}

    def note(key: str, **values: float) -> None:
        for name, value in values.items():
            found.setdefault(f"{name}_{key}", []).append(value)

    for way, base in bases.items():
        with torch.no_grad():
            mel = base.to_mel(torch.from_numpy(samples)[None] * (PEAK / peak))
            whole = base.synthesise(base.decode(base.encode(mel)))[0, : len(samples)]
        once = (whole * (peak / PEAK)).numpy()
        lost = distances(samples, once)
        note(f"once_{way}", **lost)

        def run(
            key: str, stream: Stream, once: np.ndarray = once, lost: dict[str, float] = lost
        ) -> np.ndarray:
            audio, costs = run_stream(samples, stream)
            note(key, **costs)
            for name, value in distances(once, audio).items():
                note(f"{name}_{key}", change=value)
            for name, value in distances(samples, audio).items():
                note(f"{name}_{key}", added=value - lost[name])
            return audio

        for window, overlap in BLOCKS if way == "vocoder" else ():
            networks = streaming.block_networks(base, window, overlap)
            audio = run(f"{window:g}", streaming.Reconstructor(networks, peak))
            offline = streaming.offline(networks, samples, peak)
            note(f"{window:g}", equal=float(np.abs(audio - offline).max()))
            if window == DEFAULT:
                takes[f"blocks of {window:g} s"] = audio
        for hop in HOPS:
            key = f"{way}_" + "-".join(f"{seconds:g}" for seconds in hop)
            audio = run(key, hops.Rolling(base, *hop, peak))
        takes |= {f"one pass, {way}": once, f"by hops, {way}": audio}
    return takes


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
    torch.set_num_threads(1)
    infos = find_clips(args.audio)[: args.clips]
    found: dict[str, list[float]] = {}
    bases = {way: Networks(load(args.checkpoint, ()), window=None, synthesis=way) for way in WAYS}
    blocks = streaming.block_networks(bases["vocoder"], DEFAULT, DEFAULT / 4)
    run_ddcm(np.zeros(16000, np.float32), blocks, 1.0)  # loads what is used
    for number, info in enumerate(infos):
        samples = to_model_rate(load_clip(info, args.seconds))
        # A peak of the clip's own, so that one pass and blocks differ in nothing but blocks.
        takes = measure(samples, float(np.abs(samples).max()), bases, found)
        if number < CODED:
            coded = run_ddcm(samples[: 16000 * 5], blocks, float(np.abs(samples).max()))
            for name, value in coded.items():
                found.setdefault(f"ddcm_{name}", []).append(value)
        if number == 0:
            listen(info.name, takes, args.out / "streaming")
        print(f"{number + 1} of {len(infos)}: {info.name}", flush=True)
    write(found, args, [info.path for info in infos])


def write(found: dict[str, list[float]], args: argparse.Namespace, inputs: list[Path]) -> None:
    """The table and its sidecar."""
    worst = ("equal", "wait", "slowest", "latency", "ddcm_equal")
    forms = dict.fromkeys(("wait", "slowest", "latency"), (".2f", " s"))
    forms |= dict.fromkeys(("factor", "ddcm"), (".2f", ""))
    forms |= {"equal": (".0e", ""), "mel": (".2f", " dB"), "stft": (".2f", "")}
    forms |= {"change_mel": (".2f", " dB"), "change_stft": (".2f", "")}
    forms |= {"added_mel": ("+.2f", " dB"), "added_stft": ("+.3f", "")}
    forms |= {"ddcm_equal": (".0e", ""), "ddcm_kbps": (".2f", " kbit/s")}
    rows = []
    for key, values in found.items():
        largest = key.startswith(worst)
        value = max(values) if largest else float(np.mean(values))
        first, second = key.split("_")[:2]
        form, unit = forms.get(f"{first}_{second}") or forms[first]
        how = "largest" if largest else "mean"
        shown = re.sub(r"^[+-](0\.0+)$", r"\1", f"{value:{form}}")
        shown = re.sub("^-", "\N{MINUS SIGN}", shown) + unit
        rows.append((key, value, unit.strip(), how, len(values), shown))
    for key, value in (
        ("n", len(inputs)), ("ddcm_n", min(CODED, len(inputs))),
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
    record = provenance("python " + " ".join(sys.argv), inputs, checkpoint=fingerprint)
    atomic_write(args.out / "streaming.json", json.dumps(record, indent=1, sort_keys=True) + "\n")
    for key, *_, shown in rows:
        print(f"{key:40}{shown}")


if __name__ == "__main__":
    main()
