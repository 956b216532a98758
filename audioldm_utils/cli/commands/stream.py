"""``audioldm-utils stream``: sound through VAE and vocoder, or DDCM, while it comes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from audioldm_utils import bounds
from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.cli.options import add_shared, load_networks
from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_path
from audioldm_utils.outputs import AUDIO, check_outputs

if TYPE_CHECKING:
    import numpy as np

    from audioldm_utils.model.hops import Rolling
    from audioldm_utils.model.networks import Networks
    from audioldm_utils.model.streaming import Reconstructor

HELP = "reconstruct or code sound while it comes, in overlapping blocks"
EXAMPLES = """\
  audioldm-utils stream clip.wav out.wav
  audioldm-utils stream clip.wav out.wav --window 0.64 --overlap 0.16
  audioldm-utils stream - - --rate 48000 --ahead 0.16 < sound.raw > out.raw
  audioldm-utils stream clip.wav clip.ddcs --kbps 1 --steps 10
  audioldm-utils stream clip.ddcs out.wav

A dash is standard input or output: samples of 16 bits, one channel, no header; --rate Hz in,
16000 Hz out. A file OUT.ddcs gets a DDCM stream, which is decoded from IN.ddcs. --ahead is for
little delay: of each window only a hop, --window less --overlap, is given out, with so much
seen ahead of it."""

#: Samples that are read at once: 20 ms at the model's rate.
CHUNK = 0.02
#: Seconds of window and overlap: of blocks, and with --ahead.
BLOCKS, HOPS = (1.28, 0.32), (0.64, 0.48)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("input", help="audio file, .ddcs file, or - for raw samples")
    add("output", help=".wav, .flac or .ddcs file, or - for raw samples")
    block, hops = (
        f"(default {a:g}; with --ahead {b:g})" for a, b in zip(BLOCKS, HOPS, strict=True)
    )
    add("--window", type=bounds.WINDOW, help=f"block, seconds {block}")
    add("--overlap", type=bounds.OVERLAP, help=f"shared by two blocks, seconds {hops}")
    add("--ahead", type=bounds.HOP, help="seconds to look ahead, for little delay")
    add("--peak", type=bounds.PEAK, default=1.0, help="highest level expected, full scale 1")
    add("--rate", type=bounds.RATE, default=MODEL_RATE, help="of raw input, Hz")
    add("--kbps", type=bounds.KBPS, default=1.0, help="of a .ddcs, a block")
    add("--steps", type=bounds.STEPS, default=10, help="of a .ddcs, most a block")
    add_shared(parser, "checkpoint", "device", "synthesis")


def run(args: argparse.Namespace) -> int:
    """Stream from input to output; what it cost goes to standard error."""
    coded_in, coded_out = (name.lower().endswith(".ddcs") for name in (args.input, args.output))
    if coded_in and coded_out:
        raise UserError("a .ddcs file is decoded to sound; name OUT.wav, OUT.flac or -.")
    if coded_in and not Path(args.input).is_file():
        raise UserError(f"{args.input}: no such file; check the path.")
    if args.output != "-":
        read = [] if args.input == "-" else [args.input]
        check_outputs([args.output], read, None if coded_out else AUDIO)
    if args.ahead is None and args.synthesis not in ("vocoder", "auto"):
        raise UserError(
            f"--synthesis {args.synthesis} iterates over the whole sound and cannot be streamed in "
            "blocks: add --ahead 0.16, or take the vocoder."
        )
    if args.ahead is not None and (coded_in or coded_out):
        raise UserError("--ahead is for sound, not for .ddcs files; leave it out.")
    window, overlap = BLOCKS if args.ahead is None else HOPS
    args.window = window if args.window is None else args.window
    args.overlap = overlap if args.overlap is None else args.overlap
    if args.overlap >= args.window:
        raise UserError(
            f"--overlap must be shorter than --window ({args.window:g} s), not {args.overlap:g}."
        )
    from audioldm_utils.model.streaming import block_networks

    # An error in a file is told before any network is loaded.
    chunks = None if coded_in else _opened(args.input, args.rate)
    base = load_networks(args)
    blocks = block_networks(base, args.window, args.overlap)
    if coded_out:
        return _encode(chunks, blocks, args)
    _warm(args, base, blocks, coded_in)
    begin = time.perf_counter()
    sound = _write(args.output, _made(args, chunks, base, blocks), args.input) / MODEL_RATE
    seconds = time.perf_counter() - begin
    factor = f"real-time factor {seconds / sound:.2f}"
    print(f"{sound:.2f} s of sound in {seconds:.2f} s: {factor}", file=sys.stderr)
    return 0


def _opened(name: str, rate: int) -> Iterator[np.ndarray]:
    """Pieces of the input at 16 kHz."""
    from audioldm_utils.audio.clips import load_clip

    if name == "-":
        pieces = _raw(sys.stdin.buffer, round(CHUNK * rate))
    else:
        clip = load_clip(name)
        rate, size = clip.sample_rate, max(1, round(CHUNK * clip.sample_rate))
        pieces = (clip.samples[i : i + size] for i in range(0, len(clip.samples), size))
    return pieces if rate == MODEL_RATE else _resampled(pieces, rate)


def _raw(stream: BinaryIO, count: int) -> Iterator[np.ndarray]:
    import numpy as np

    rest = b""
    while data := stream.read1(2 * count):  # what is there, without waiting for more
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768


def _resampled(pieces: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    import numpy as np
    import soxr

    stream = soxr.ResampleStream(rate, MODEL_RATE, 1, dtype="float32", quality="HQ")
    for piece in pieces:
        yield stream.resample_chunk(piece)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _made(
    args: argparse.Namespace, chunks: Iterator[np.ndarray] | None, base: Networks, blocks: Networks
) -> Iterator[np.ndarray]:
    """Pieces of sound, reconstructed or, where there are no chunks, decoded."""
    if chunks is None:
        from audioldm_utils.ddcm.stream import decode_stream

        with open(args.input, "rb") as file:
            yield from decode_stream(file.read, base, args.input)
        return
    stream = _stream(args, base, blocks)
    yield from map(stream.push, chunks)
    yield stream.finish()


def _stream(args: argparse.Namespace, base: Networks, blocks: Networks) -> Reconstructor | Rolling:
    from audioldm_utils.model.hops import Rolling
    from audioldm_utils.model.streaming import Reconstructor

    if args.ahead is None:
        return Reconstructor(blocks, args.peak)
    hop = round(args.window - args.overlap, 6)
    return Rolling(base, args.window, hop, args.ahead, args.peak)


def _warm(args: argparse.Namespace, base: Networks, blocks: Networks, coded: bool) -> None:
    """Load what is used, so that neither the first block nor the factor waits for it."""
    import numpy as np
    import torch

    stream = _stream(args, base, blocks)
    stream.push(np.zeros(MODEL_RATE // 4, np.float32))
    stream.finish()
    if coded:
        base.denoiser()(torch.zeros(1, 8, 16, 16, device=base.device), 500)


def _encode(chunks: Iterator[np.ndarray], blocks: Networks, args: argparse.Namespace) -> int:
    from audioldm_utils.ddcm.settings import Settings
    from audioldm_utils.ddcm.stream import Encoder

    encoder = Encoder(blocks, Settings(kbps=args.kbps, steps=args.steps), args.peak)
    with atomic_path(args.output) as temporary, temporary.open("wb") as file:
        size = sum(file.write(encoder.push(chunk)) for chunk in chunks)
        if encoder.taken == 0:
            raise _nothing(args.input)
        size += file.write(encoder.finish())
    seconds = encoder.taken / MODEL_RATE
    print(f"{args.output}: {size} bytes for {seconds:.2f} s, {size / 125 / seconds:.3f} kbit/s")
    return 0


def _nothing(source: str) -> UserError:
    """Raised inside ``atomic_path``, so that what stood at the output's place stays."""
    named = "standard input" if source == "-" else source
    return UserError(f"{named}: no samples came; nothing was written.")


def _write(name: str, made: Iterator[np.ndarray], source: str) -> int:
    """Write pieces as they come, a file whole or not at all; returns how many samples."""
    import numpy as np
    import soundfile as sf

    def put(write: Callable[[np.ndarray], object]) -> int:
        count = 0
        for piece in made:
            if len(piece):
                write(np.clip(np.rint(piece * 32768), -32768, 32767).astype("<i2"))
                count += len(piece)
        if count == 0:
            raise _nothing(source)
        return count

    if name == "-":

        def send(samples: np.ndarray) -> None:
            sys.stdout.buffer.write(samples.tobytes())
            sys.stdout.buffer.flush()

        return put(send)
    try:
        with (
            atomic_path(name) as temporary,
            sf.SoundFile(temporary, "w", MODEL_RATE, 1, subtype="PCM_16") as file,
        ):
            return put(file.write)
    except sf.LibsndfileError as error:  # it names the temporary file, and no reason
        raise UserError(
            f"{name}: cannot be written (is the disk full?); make room or name another place."
        ) from error
