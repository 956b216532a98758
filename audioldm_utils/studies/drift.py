"""A ``.ddcm`` file decoded otherwise than it was encoded: other batch, threads or device.

Sums in another order round otherwise, and each step's rounding goes into the next.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.core import Codes
from audioldm_utils.errors import UserError


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


def read_drift(folder: str | Path, fingerprint: str) -> tuple[str, str]:
    """Largest log-mel change and the codec's own error, in dB, as sentences take them.

    From ``ddcm_drift.json`` of ``benchmarks/ddcm_drift.py``; another checkpoint's does not count.
    """
    path = Path(folder) / "ddcm_drift.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    if found.get("checkpoint") != fingerprint:
        return ("not measured for this checkpoint",) * 2
    worst = max(way["largest log-mel change, dB"] for way in found["ways"].values())
    own = found["codec's own error, dB"]
    return f"{worst:.2g} dB", f"{own:.2g} dB"
