"""Streams in pieces of any size equal the same blocks over a whole clip."""

from __future__ import annotations

import io
import math
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import soundfile as sf
import torch

from audioldm_utils.book.pages import table_values
from audioldm_utils.cli import main as cli
from audioldm_utils.ddcm import stream as ddcm
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.errors import UserError
from audioldm_utils.model import streaming
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Networks
from audioldm_utils.model.windows import Crossfade, crossfade, window_starts
from tests.demo_project import ROOT


@pytest.fixture(scope="module")
def networks(tiny_checkpoint):
    return streaming.block_networks(Networks(load(tiny_checkpoint, ())), 0.32, 0.08)


def clip(n):
    rng = np.random.default_rng(3)
    return (0.2 * rng.standard_normal(n) * np.linspace(0.1, 1, n)).astype(np.float32)


def through(networks, samples, size, peak=1.0):
    stream = streaming.Reconstructor(networks, peak)
    pieces = [stream.push(samples[i : i + size]) for i in range(0, len(samples), size)]
    assert stream.taken == len(samples)
    return np.concatenate([*pieces, stream.finish()])


# Under three hops; one window; a window and a sample; not a multiple of anything; many windows.
@pytest.mark.parametrize(
    ("n", "size"), [(300, 100), (5120, 320), (5121, 5121), (16001, 321), (24000, 160), (9000, 7)]
)
def test_a_stream_equals_the_offline_windowed_path(networks, n, size):
    samples = clip(n)
    expected = streaming.offline(networks, samples, peak=0.7)
    found = through(networks, samples, size, peak=0.7)
    assert found.shape == expected.shape == (n,)
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(expected).max() > 1e-3


def test_offline_is_the_ordinary_path_at_a_fixed_level(networks):
    """With the clip's own level, it is what ``Networks.reconstruct_vae`` gives."""
    samples = clip(16000)
    samples -= samples.mean()
    expected = networks.reconstruct_vae(torch.from_numpy(samples)[None])[0].numpy()
    found = streaming.offline(networks, samples, peak=float(np.abs(samples).max()))
    assert np.abs(found - expected).max() < 1e-4


def test_output_comes_before_the_input_ends(networks):
    """At most two windows late, and what the front end and the vocoder look ahead."""
    stream, given, late = streaming.Reconstructor(networks), 0, 0
    for piece in np.split(clip(32000), 200):
        ready = stream.push(piece)
        if len(ready):
            late = max(late, stream.taken - given)
        given += len(ready)
    ahead = networks.vocoder_context + streaming.VOCODER_BLOCK + 8
    assert given > 0
    assert late <= (2 * networks.window + ahead) * 160


@pytest.mark.parametrize("length", [3, 8, 9, 11, 14, 40, 41])
def test_windows_and_crossfade_are_those_of_stages(length):
    x = torch.randn(1, length, 2)
    windows, faded, taken = streaming.Windows(8, 3, 1), Crossfade(3, 1), []
    starts = []

    def add(found):
        for start, piece in found:
            starts.append(start)
            faded.add(start, piece * (1 + start))
        done = faded.take(windows.settled)
        if done is not None:
            taken.append(done)

    for i in range(length):
        add(windows.push(x[:, i : i + 1]))
    add(windows.finish())
    assert starts == window_starts(length, 8, 3)
    pieces = [(s, x[:, s : s + 8] * (1 + s)) for s in starts]
    assert torch.allclose(torch.cat(taken, 1), crossfade(pieces, length, 3, 1), atol=1e-6)


def test_nothing_in_nothing_out(networks):
    assert streaming.Reconstructor(networks).finish().shape == (0,)


@pytest.mark.parametrize(("window", "overlap"), [(0.01, 0), (0.32, 0.32), (2000, 0.1)])
def test_impossible_blocks(networks, window, overlap):
    with pytest.raises(UserError, match="window"):
        streaming.block_networks(networks, window, overlap)


def test_impossible_peak(networks):
    with pytest.raises(UserError, match=r"peak must be a number .*, not 0\.0"):
        streaming.Reconstructor(networks, 0.0)


# --- DDCM ----------------------------------------------------------------------------------------

SETTINGS = Settings(kbps=None, atoms=1, steps=3)


def coded(networks, samples):
    encoder = ddcm.Encoder(networks, SETTINGS)
    pieces = [encoder.push(samples[i : i + 700]) for i in range(0, len(samples), 700)]
    assert sum(map(bool, pieces)) > 1  # blocks are sent as they are done
    return b"".join([*pieces, encoder.finish()])


def test_ddcm_over_a_stream_equals_the_offline_path(networks):
    samples = clip(30001)
    data = coded(networks, samples)
    pieces = list(ddcm.decode_stream(io.BytesIO(data).read, networks))
    assert len(pieces) > 1
    found = np.concatenate(pieces)
    assert found.shape == samples.shape
    assert np.abs(found - ddcm.offline(networks, samples, SETTINGS)).max() < 1e-4


def decoded(data, networks):
    return list(ddcm.decode_stream(io.BytesIO(data).read, networks))


def pieces_of(data):
    """Head, records and end of a stream without its checksums."""
    mark, position, parts = 4 * (data[4] > 1), 13, [data[:13]]
    position += mark
    while position < len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "little")
        parts.append(data[position:end])
        position = end + mark
    return parts


def sealed(parts):
    """The stream of such parts, in the version that its head says, checksums made again."""
    data, total = b"", 0
    for part in parts:
        total = zlib.crc32(part, total)
        data += part + (struct.pack("<I", total) if parts[0][4] > 1 else b"")
    return data


def as_version_1(data):
    head, *rest = pieces_of(data)
    return sealed([head[:4] + b"\x01" + head[5:], *rest])


def put(part, position, value):
    return part[:position] + value + part[position + len(value) :]


def number(value):
    return struct.pack("<I", value)


@pytest.fixture(scope="module")
def stream_data(networks):
    return coded(networks, clip(15001))


def test_what_is_no_stream_or_cut_short(networks, stream_data):
    data = stream_data
    for wrong, sentence in (
        (b"", "not a DDCM stream"),
        (b"RIFF" + data[4:], "not a DDCM stream"),
        (data[:4] + b"\x09" + data[5:], "newer version"),
        (data[:-3], "cut short"),
        (data[: len(data) // 2], "cut short"),
        (data + b"\0", "something follows its end"),
        (as_version_1(data)[:-3], "cut short"),
        (as_version_1(data) + b"\0", "something follows its end"),
    ):
        with pytest.raises(UserError, match=sentence):
            decoded(wrong, networks)
    with pytest.raises(UserError, match=r"at most 10\.24 s"):
        ddcm.Encoder(streaming.block_networks(networks, 12, 1))


def test_every_changed_byte_of_a_stream_is_refused(networks, stream_data, monkeypatch):
    """Version 2. That it is refused is known before the block is decoded."""
    monkeypatch.setattr(ddcm.Codec, "decode_latents", lambda *_: pytest.fail("was decoded"))
    for position in range(17 + len(pieces_of(stream_data)[1]) + 4):
        changed = bytes([stream_data[position] ^ 0x10])
        with pytest.raises(UserError):
            decoded(put(stream_data, position, changed), networks)


def test_records_missing_twice_or_exchanged_are_refused_by_the_checksum(networks, stream_data):
    # Each record with the checksum that it had; the layout is looked at after it.
    sizes = [len(part) + 4 for part in pieces_of(stream_data)]
    whole = [stream_data[end - n : end] for end, n in zip(np.cumsum(sizes), sizes, strict=True)]
    head, first, second, *rest = whole
    for wrong in (
        [head, first, first, second, *rest],
        [head, second, *rest],
        [head, first, *rest],
        [head, second, first, *rest],
    ):
        with pytest.raises(UserError, match="checksum"):
            decoded(b"".join(wrong), networks)


@pytest.mark.parametrize("version", [1, 2])
def test_a_stream_whose_parts_do_not_fit_is_refused_under_right_checksums(
    version, networks, stream_data
):
    parts = pieces_of(stream_data if version == 2 else as_version_1(stream_data))
    assert decoded(sealed(parts), networks)
    head, first, second, third, *rest = parts
    end, others = rest[-1], [second, third, *rest[:-1]]
    nan, zero = struct.pack("<f", math.nan), struct.pack("<f", 0)
    for wrong, sentence in (
        ([put(head, 5, b"\1\0"), first, *others, end], "windows have 1 frames"),
        ([put(head, 5, b"\7\0"), first, *others, end], "windows have 7 frames"),
        ([put(head, 5, b"\xff\xff"), first, *others, end], "windows have 65535 frames"),
        ([put(head, 7, b"\x20\0"), first, *others, end], "overlap by 32"),
        ([put(head, 7, b"\3\0"), first, *others, end], "overlap by 3"),
        ([put(head, 7, b"\4\0"), first, *others, end], "frame 48 follows one at frame 24"),
        ([put(head, 9, nan), first, *others, end], "peak is nan"),
        ([put(head, 9, zero), first, *others, end], "peak is 0"),
        ([head, put(first, 4, number(4)), *others, end], "a block at frame 4"),
        ([head, put(first, 4, number(2**32 - 4)), *others, end], "a block at frame 4294967292"),
        ([head, first, put(second, 4, number(2**32 - 4)), end], "a block at frame 4294967292"),
        ([head, first, first, *others, end], "a block at frame 0 follows one at frame 0"),
        ([head, first, *others[1:], end], "a block at frame 48 follows one at frame 0"),
        ([head, first, *others[:-1], end], "do not hold"),
        ([head, first, *others, put(end, 4, number(0))], "do not hold 0 samples"),
        ([head, first, *others, put(end, 4, number(2**32 - 1))], "do not hold"),
        ([head, first, *others, put(end, 4, number(15001 - 700))], "do not hold"),
        ([head, put(first, 0, number(2**32 - 1)), *others, end], "4294967295 bytes"),
        ([head, end], "do not hold"),
    ):
        with pytest.raises(UserError, match=sentence):
            decoded(sealed(wrong), networks)


# --- the command ---------------------------------------------------------------------------------


def test_command_on_files(tiny_checkpoint, tmp_path, capsys):
    source, out = tmp_path / "in.flac", tmp_path / "out.wav"
    sf.write(source, clip(24000), 24000)
    blocks = ["--checkpoint", str(tiny_checkpoint), "--window", "0.32", "--overlap", "0.08"]
    assert cli.main(["stream", str(source), str(out), *blocks]) == 0
    assert "real-time factor" in capsys.readouterr().err
    assert sf.info(out).frames == 16000
    stream = tmp_path / "in.ddcs"
    assert cli.main(["stream", str(source), str(stream), "--steps", "2", *blocks]) == 0
    assert cli.main(["stream", str(stream), str(out), *blocks]) == 0
    assert sf.info(out).frames == 16000


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["gone.wav", "out.wav"], "no such file"),
        (["gone.ddcs", "out.wav"], "gone.ddcs"),
        (["in.wav", "out.mp3"], "written as .wav or .flac"),
        (["a.ddcs", "b.ddcs"], "decoded to sound"),
        (["-", "out.wav", "--rate", "3"], "--rate"),
    ],
)
def test_command_refuses(given, sentence, tiny_checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["stream", *given, "--checkpoint", str(tiny_checkpoint)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("audioldm-utils: error: ")
    assert sentence in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "out.ddcs"])
def test_an_empty_stream_leaves_what_was_there(
    name, tiny_checkpoint, tmp_path, monkeypatch, capsys
):
    """Nothing on standard input, or a coded stream that holds nothing."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    out, empty = tmp_path / name, tmp_path / "empty.ddcs"
    out.write_bytes(b"earlier")
    empty.write_bytes(struct.pack("<4sBHHfII", b"DDCS", 1, 32, 8, 1.0, 0, 0))
    for given in ["-"] if name.endswith("ddcs") else ["-", str(empty)]:
        words = ["stream", given, str(out), "--checkpoint", str(tiny_checkpoint)]
        assert cli.main([*words, "--window", "0.32", "--overlap", "0.08"]) == 2
        assert "no samples came; nothing was written." in capsys.readouterr().err
        assert out.read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["empty.ddcs", name])


@pytest.mark.processes
def test_command_on_pipes(tiny_checkpoint):
    """Raw samples in, raw samples out, through a real pipe."""
    program = "import sys; from audioldm_utils.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "stream", "-", "-", "--checkpoint"]
    command += [str(tiny_checkpoint), "--window", "0.32", "--overlap", "0.08"]
    raw = np.rint(clip(16000) * 32767).astype("<i2").tobytes()
    done = subprocess.run(command, input=raw, capture_output=True, cwd=ROOT, check=True)
    assert len(done.stdout) == len(raw)
    assert np.abs(np.frombuffer(done.stdout, "<i2")).max() > 0


def test_a_table_with_keys_can_be_asked_by_pages(tmp_path):
    (tmp_path / "streaming.csv").write_text("key,value,text\nn,3,3 clips\n")
    (tmp_path / "other.csv").write_text("clip,value\na,3\n")
    (tmp_path / "streaming").mkdir()
    (tmp_path / "streaming" / "players.html").write_text("<b>here</b>\n")
    assert table_values(tmp_path) == {"streaming": {"n": "3 clips", "players": "<b>here</b>"}}
