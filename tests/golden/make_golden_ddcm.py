"""Write ``ddcm.npz``: whole ``.ddcm`` and ``.ddcs`` files and the sound that they decode to.

Run from the repository's root: ``python tests/golden/make_golden_ddcm.py``. What is there
already is what files of that day decoded to: a new format adds entries and replaces none, so
the script keeps every entry that it finds; delete the file to begin anew.

The checkpoint is the tests' tiny one, whose weights hang on a seed. The files hold a
fingerprint of zeros, and the test puts the checkpoint's own in its place, since that hashes
configurations which name the version of the library that wrote them.

Where another machine may round differently: in the networks and in what they make, so sound is
compared within a tolerance. Codes, noise and header are integers and must be equal. A choice
between two atoms that score alike may fall otherwise, so files are not made again in the test;
here each is encoded a second time with the network's output moved by 1e-5 of its size, far
beyond rounding, and must come out the same.
"""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch

RATE = 16000
PATH = Path(__file__).with_name("ddcm.npz")
#: Of the sound, which samples are kept.
EVERY = 7
FINGERPRINT = slice(5, 11)
#: A stream's head, before the first record: bytes.
HEAD = struct.calcsize("<4sBHHf")


def signal(seconds: float = 0.4) -> np.ndarray:
    """A falling tone with noise and an offset: float32, 16 kHz."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(5).standard_normal(len(time))
    x = 0.01 + 0.2 * np.sin(2 * np.pi * (900 * time - 600 * time**2)) * np.exp(-3 * time)
    return (x + 0.01 * noise).astype(np.float32)


def settings() -> dict:
    """What each file is encoded with: every codebook, and every optional field."""
    from audioldm_utils.ddcm.settings import Settings

    return {
        "rate": Settings(kbps=3.0, steps=8),
        "cyclic": Settings(kbps=None, steps=6, atoms=3, size=2, seed=3),
        "gaussian": Settings(kbps=None, atoms=(2, 0, 1), steps=4, codebook="gaussian", size=37),
        "turbo": Settings(kbps=None, steps=4, codebook="turbo", size=50, atoms=5, seed=9),
        "pursuit": Settings(kbps=None, steps=4, codebook="matching-pursuit", size=20, atoms=2),
        "given": Settings(kbps=None, timesteps=(900, 500, 20), eta=0.5),
        "prompt": Settings(
            kbps=None, steps=3, prompt="rain", guidance=2.5, negative_prompt="noise"
        ),
        "windows": Settings(kbps=None, steps=3, segment=4, window=8, overlap=4),
        "placed": Settings(kbps=None, steps=5, placement="alpha-bar", stop=0.9, power=0.25),
    }


def with_fingerprint(data: bytes, fingerprint: bytes) -> bytes:
    """A ``.ddcm`` file for the checkpoint of that fingerprint, its checksum made again."""
    body = data[: FINGERPRINT.start] + fingerprint[:6] + data[FINGERPRINT.stop : -4]
    return body + struct.pack("<I", zlib.crc32(body, len(body)))


def stream_with_fingerprint(data: bytes, fingerprint: bytes) -> bytes:
    """The same for every block of a ``.ddcs`` stream, of either version."""
    found, total, position = b"", 0, 0
    seal = 4 if data[4] > 1 else 0
    while position < len(data):
        end = position + HEAD if position == 0 else position + 8
        if position:
            end += int.from_bytes(data[position : position + 4], "little")
        part = data[position:end]
        if position and len(part) > 8:
            part = part[:8] + with_fingerprint(part[8:], fingerprint)
        total = zlib.crc32(part, total)
        found += part + struct.pack("<I", total)[:seal]
        position = end + seal
    return found


def nudged(codec, header_denoiser):
    """The codec's way to a denoiser, with its output moved a little."""

    def make(header):
        denoiser, counter = header_denoiser(header)
        noise = torch.Generator().manual_seed(1)

        def output(x, t):
            made = denoiser(x, t)
            return made + 1e-5 * made.abs().mean() * torch.randn(made.shape, generator=noise)

        return output, counter

    return make


def make(folder: Path) -> dict[str, np.ndarray]:
    """Files and sounds by the names ``<name>.ddcm`` and ``<name>.sound``."""
    from audioldm_utils.ddcm.codec import Codec
    from audioldm_utils.ddcm.stream import VERSION, Encoder, decode_stream
    from audioldm_utils.model.checkpoint import load
    from audioldm_utils.model.networks import Networks
    from audioldm_utils.model.streaming import block_networks
    from tests import tiny

    checkpoint = load(tiny.build_checkpoint(folder / "tiny"), ())
    codec, found = Codec(Networks(checkpoint)), {}
    plain = codec._denoiser
    for name, how in settings().items():
        data = codec.encode(signal(), how).data
        codec._denoiser = nudged(codec, plain)
        assert codec.encode(signal(), how).data == data, f"{name} hangs on rounding"
        codec._denoiser = plain
        zero = with_fingerprint(data, bytes(6))
        found[f"{name}.ddcm"] = np.frombuffer(zero, np.uint8)
        found[f"{name}.sound"] = codec.decode(data).samples[::EVERY]
    blocks = block_networks(codec.networks, 0.16, 0.04)
    encoder = Encoder(blocks, settings()["cyclic"], 0.3)
    data = encoder.push(signal()) + encoder.finish()
    sound = np.concatenate(list(decode_stream(io.BytesIO(data).read, blocks)))
    zero = stream_with_fingerprint(data, bytes(6))
    found[f"version-{VERSION}.ddcs"] = np.frombuffer(zero, np.uint8)
    found[f"version-{VERSION}.sound"] = sound[::EVERY]
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder))
    if PATH.is_file():
        with np.load(PATH) as kept:
            made |= {name: kept[name] for name in kept.files}
    np.savez_compressed(PATH, **made)
    print(f"{PATH}: {PATH.stat().st_size} bytes, {', '.join(made)}")
