"""Decoding with other threads or in a batch: the drift stays far below what one could hear."""

import json
import math

import numpy as np
import pytest
import torch

from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.errors import UserError
from audioldm_utils.metrics import DB_PER_NAT
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Networks
from audioldm_utils.studies.streams import read_drift, replay

#: dB of log-mel, mean absolute. A codec's own error is some dB.
BOUND = 0.05


def tone():
    t = np.arange(10240) / 16000
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(t))
    return (0.2 * np.sin(2 * math.pi * 500 * t * (1 + t)) + noise).astype(np.float32)


@pytest.mark.parametrize("name", ["tiny", "mini"])
def test_the_drift_is_bounded(name, request):
    checkpoint = request.getfixturevalue("tiny_checkpoint") if name == "tiny" else "mini"
    codec = Codec(Networks(load(checkpoint, ())))
    encoded = codec.encode(tone(), Settings(kbps=2.0, steps=5))
    decode = codec.networks.decode
    mel = decode(encoded.codes.latents)
    assert torch.equal(replay(codec, encoded.data), encoded.codes.latents)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        other = replay(codec, encoded.data)
    finally:
        torch.set_num_threads(threads)
    for latents in (other, replay(codec, encoded.data, 2)):
        assert DB_PER_NAT * float((decode(latents) - mel).abs().mean()) < BOUND
        assert torch.allclose(latents, encoded.codes.latents, atol=0.01)


def test_what_is_not_measured_is_refused_or_said(tiny_checkpoint, tmp_path):
    codec = Codec(Networks(load(tiny_checkpoint, ())))
    encoded = codec.encode(tone(), Settings(kbps=None, steps=2, prompt="rain"))
    with pytest.raises(UserError, match="without a prompt"):
        replay(codec, encoded.data)
    unknown = "How far such a file drifts was not measured for this checkpoint."
    assert read_drift(tmp_path, "ab") == unknown
    found = {"checkpoint": "ab", "clips": 4, "codec's own error, dB": 2.0}
    found["ways"] = {"batch": {"largest log-mel change, dB": 0.012}}
    (tmp_path / "ddcm_drift.json").write_text(json.dumps(found))
    assert "by 0.012 dB at most; the codec's own error is 2 dB" in read_drift(tmp_path, "ab")
    found["ways"]["batch"]["largest log-mel change, dB"] = 2e-5
    (tmp_path / "ddcm_drift.json").write_text(json.dumps(found))
    assert "by less than 0.001 dB;" in read_drift(tmp_path, "ab")
    assert read_drift(tmp_path, "cd") == unknown
