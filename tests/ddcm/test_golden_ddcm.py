"""Files written long ago decode to the sound that they decoded to then."""

import io
from pathlib import Path

import numpy as np
import pytest

from audioldm_utils.ddcm import stream
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.model import checkpoint as checkpoints
from audioldm_utils.model.networks import Networks
from tests.golden.make_golden_ddcm import (
    EVERY,
    settings,
    signal,
    stream_with_fingerprint,
    with_fingerprint,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "ddcm.npz"
# Of full scale. Moving every output of the network by a millionth of its size, ten times what
# rounding does, moves these sounds by at most 1.2e-6; one step of 16-bit audio is 3e-5.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden():
    assert GOLDEN.is_file(), "run python tests/golden/make_golden_ddcm.py and commit its output"
    with np.load(GOLDEN) as found:
        return dict(found)


@pytest.fixture(scope="module")
def codec(tiny_checkpoint):
    return Codec(Networks(checkpoints.load(tiny_checkpoint, ())))


@pytest.mark.parametrize("name", settings())
def test_a_file_of_long_ago_gives_its_sound(name, codec, golden):
    fingerprint = bytes.fromhex(codec.networks.checkpoint.fingerprint)
    data = with_fingerprint(golden[f"{name}.ddcm"].tobytes(), fingerprint)
    samples = codec.decode(data, name).samples
    assert samples.shape == signal().shape
    np.testing.assert_allclose(samples[::EVERY], golden[f"{name}.sound"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("version", [1, 2])
def test_a_stream_of_long_ago_gives_its_sound(version, codec, golden):
    fingerprint = bytes.fromhex(codec.networks.checkpoint.fingerprint)
    data = golden[f"version-{version}.ddcs"].tobytes()
    assert data[4] == version
    whole = io.BytesIO(stream_with_fingerprint(data, fingerprint))
    samples = np.concatenate(list(stream.decode_stream(whole.read, codec.networks)))
    assert samples.shape == signal().shape
    expected = golden[f"version-{version}.sound"]
    np.testing.assert_allclose(samples[::EVERY], expected, atol=TOLERANCE, rtol=0)


def test_every_kept_file_is_tested(golden):
    names = {f"{name}.{part}" for name in settings() for part in ("ddcm", "sound")}
    streams = {f"version-{n}.{part}" for n in (1, 2) for part in ("ddcs", "sound")}
    assert set(golden) == names | streams
