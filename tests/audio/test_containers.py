"""Headers that promise more than the file holds."""

import io
import re
import struct

import numpy as np
import pytest
import soundfile as sf

from audioldm_utils.audio.clips import load_clip
from audioldm_utils.errors import UserError

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 8001)
FORMATS = [
    ("WAV", "PCM_16", "LITTLE"),
    ("WAV", "PCM_16", "BIG"),
    ("WAV", "PCM_U8", "FILE"),
    ("WAV", "FLOAT", "FILE"),
    ("WAV", "MS_ADPCM", "FILE"),
    ("WAVEX", "PCM_24", "FILE"),
    ("RF64", "PCM_16", "FILE"),
    ("W64", "PCM_16", "FILE"),
    ("AIFF", "PCM_16", "FILE"),
    ("AIFF", "PCM_16", "LITTLE"),
    ("AU", "PCM_16", "BIG"),
    ("AU", "PCM_16", "LITTLE"),
    ("CAF", "PCM_16", "FILE"),
]


def encoded(container, subtype="PCM_16", endian="FILE"):
    whole = io.BytesIO()
    sf.write(whole, NOISE, 16000, format=container, subtype=subtype, endian=endian)
    return whole.getvalue()


def missing_bytes(path):
    """Bytes that are said to be missing, 0 of a file that is read, or what else is said."""
    try:
        load_clip(path)
        return 0
    except UserError as error:
        said = str(error)
    found = re.search(r"cut short or corrupt \((\d+) bytes of the samples that its header", said)
    return int(found[1]) if found else said


@pytest.mark.parametrize(("container", "subtype", "endian"), FORMATS)
def test_a_file_cut_anywhere_is_refused_and_a_whole_one_is_not(
    tmp_path, container, subtype, endian
):
    data, path = encoded(container, subtype, endian), tmp_path / "clip.wav"
    path.write_bytes(data)
    assert len(load_clip(path).samples) >= len(NOISE)
    for kept in (len(data) // 2, len(data) - 1000):
        path.write_bytes(data[:kept])
        missing = missing_bytes(path)
        if container == "CAF" and kept < len(data) - 1000:  # even its header is cut
            assert re.search(r"clip\.wav: .*be read", missing)
        else:
            # What follows the samples in some formats is missing too.
            assert 0 < missing <= len(data) - kept


def test_what_follows_the_samples_may_be_missing(tmp_path):
    """Only samples count: a list of texts after them, or the byte that fills up an odd chunk."""
    data, path = encoded("WAV", "PCM_U8"), tmp_path / "clip.wav"
    path.write_bytes(data[: 44 + len(NOISE)])
    assert missing_bytes(path) == 0
    path.write_bytes(encoded("WAV") + b"LIST" + struct.pack("<I", 1000) + b"INFO")
    assert missing_bytes(path) == 0
    assert len(load_clip(path).samples) == len(NOISE)


def test_a_stream_whose_length_was_not_known_is_taken_as_it_is(tmp_path):
    path = tmp_path / "piped.wav"
    data = bytearray(encoded("WAV"))
    data[4:8] = data[40:44] = b"\xff" * 4
    path.write_bytes(data)
    assert missing_bytes(path) == 0
    assert len(load_clip(path).samples) == len(NOISE)
    data[40:44] = struct.pack("<I", 2 * len(NOISE) + 2)
    path.write_bytes(data)
    assert missing_bytes(path) == 2


def test_whatever_else_promises_nothing(tmp_path):
    path = tmp_path / "other"
    endless = b"RIFF" + struct.pack("<I", 0) + b"WAVE" + (b"junk" + bytes(4)) * 100_000
    for data in (b"RIFF", b"fLaC", b"caff", b".snd", b"FORM", b"riff" * 20, endless):
        path.write_bytes(data)
        assert "cannot be read as audio" in missing_bytes(path)
    for suffix in ("FLAC", "OGG", "MP3"):
        path.write_bytes(encoded(suffix, None)[:-100])
        missing = missing_bytes(path)
        assert missing == 0 or "header" not in missing
