"""What ``.ddcm`` files hold: is anything left to code, and do they decode alike elsewhere?

Indices of an ideal code are uniform and independent. Some hundred of them do not fill a
histogram of 65,536 atoms, so they are sorted into a few equal buckets, and what the histogram
of these could save a bit is bounded.

Decoded in another batch, with other threads or on another device, sums in another order round
otherwise, and each step's rounding goes into the next.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import chi2

from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.core import Codes
from audioldm_utils.errors import UserError

SAMPLES_PER_BUCKET = 20


@dataclass(frozen=True)
class Entropy:
    """What entropy coding could save; NaN where there are too few indices to tell.

    Attributes:
        bits: of one index as stored, log2 of the codebook's size.
        saving: bits an index that its distribution over buckets could save; below 0 by
            chance, as the bias of a finite histogram is subtracted (Miller and Madow).
        p_uniform: chance of a histogram as uneven if indices are uniform (chi-square).
        memory, p_independent: the same of knowing the index before it.
        count, buckets: indices, and of the histogram.
    """

    bits: float
    saving: float
    p_uniform: float
    memory: float
    p_independent: float
    count: int
    buckets: int


def index_entropy(indices: Sequence[Sequence[int]], size: int) -> Entropy:
    """Measure what is left to code in streams of indices in [0, size), each in order.

    Raises:
        ValueError: fewer than 40 indices in all, or one outside the codebook.
    """
    flat = np.concatenate([np.asarray(stream, dtype=np.int64) for stream in indices])
    if len(flat) < 2 * SAMPLES_PER_BUCKET:
        raise ValueError(f"{len(flat)} indices; at least {2 * SAMPLES_PER_BUCKET} are needed")
    if flat.min() < 0 or flat.max() >= size:
        raise ValueError(f"an index lies outside the codebook of {size}")
    buckets = min(size, 256, len(flat) // SAMPLES_PER_BUCKET)
    counts = np.bincount(flat * buckets // size, minlength=buckets)
    edges = -(-np.arange(buckets + 1) * size // buckets)
    saving, p_uniform = _divergence(counts, np.diff(edges) / size * len(flat), buckets - 1)

    few = max(2, min(size, 16, math.isqrt(len(flat) // SAMPLES_PER_BUCKET)))
    table = np.zeros((few, few))
    for stream in indices:
        coarse = np.asarray(stream, dtype=np.int64) * few // size
        np.add.at(table, (coarse[:-1], coarse[1:]), 1)
    pairs = max(table.sum(), 1)
    product = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / pairs
    memory, p_independent = _divergence(table.ravel(), product.ravel(), (few - 1) ** 2)
    return Entropy(math.log2(size), saving, p_uniform, memory, p_independent, len(flat), buckets)


def codes_entropy(codec: Codec, files: Sequence[bytes]) -> Entropy:
    """What is left to code in the indices of ``.ddcm`` files.

    Files whose codebook has another size than the first's (clips of another length) are left out.
    """
    streams: dict[int, list[list[int]]] = {}
    for data in files:
        coder, codes, _, _ = codec.open(data)
        paid = [c for c, atoms in zip(codes.choices, coder.atoms, strict=True) if atoms]
        stream = [index for choice in paid for index in choice.flatten().tolist()]
        streams.setdefault(coder.codebook.size, []).append(stream)
    size = next(iter(streams), 1)
    count = sum(map(len, streams.get(size, [])))
    if count < 2 * SAMPLES_PER_BUCKET:
        return Entropy(math.log2(size), *[math.nan] * 4, count, 0)
    return index_entropy(streams[size], size)


def _divergence(counts: np.ndarray, expected: np.ndarray, degrees: int) -> tuple[float, float]:
    """Kullback-Leibler divergence in bits a sample, bias removed, and the G test's p-value."""
    some = (counts > 0) & (expected > 0)
    total = max(counts.sum(), 1)
    divergence = float((counts[some] * np.log(counts[some] / expected[some])).sum())
    excess = (divergence - degrees / 2) / total / math.log(2)
    return excess, float(chi2.sf(2 * divergence, degrees))


def replay(codec: Codec, data: bytes, batch: int = 1) -> torch.Tensor:
    """Latents (1, 8, frames, 16) of a file, decoded in a batch of copies of it.

    Raises:
        UserError: a file with a prompt or of more than one window, which are not measured.
    """
    coder, codes, header, _ = codec.open(data)
    if header.prompt is not None or codes.shape[1] > 256:
        raise UserError("drift is measured without a prompt and on clips of up to 10 s")
    choices = tuple(choice.repeat(batch, 1) for choice in codes.choices)
    many = Codes(choices, codes.shape, codes.latents.expand(batch, *codes.shape))
    return coder.decode(many, codec.networks.denoiser(None))[:1].cpu()


def read_drift(folder: str | Path, fingerprint: str) -> str:
    """How far a file drifts that is decoded otherwise than it was encoded, in one sentence.

    From ``ddcm_drift.json`` of ``benchmarks/ddcm_drift.py``; another checkpoint's does not count.
    """
    path = Path(folder) / "ddcm_drift.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    if found.get("checkpoint") != fingerprint:
        return "How far such a file drifts was not measured for this checkpoint."
    worst = max(way["largest log-mel change, dB"] for way in found["ways"].values())
    own = found["codec's own error, dB"]
    drift = "less than 0.001 dB" if worst < 0.001 else f"{worst:.2g} dB at most"
    return (
        f"On {found['clips']} clips that changes the decoded mel by {drift}; the codec's own error "
        f"is {own:.2g} dB."
    )
