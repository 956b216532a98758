"""What tells the class of generated samples, on sounds whose answer is known."""

from __future__ import annotations

import numpy as np
from recipe.classifier import features, fit, nearest, told


def mel(kind, seed, frames=256):
    """Noise with a loud band of its kind, and a beat of its kind."""
    rng = np.random.default_rng(seed)
    out = -8 + 0.5 * rng.standard_normal((frames, 64))
    out[:, 20 * kind : 20 * kind + 10] += 5
    out[:: 10 * (kind + 1)] += 2
    return out.astype(np.float32)


def test_known_classes_are_told_at_any_level():
    train = [mel(kind, seed) for kind in range(3) for seed in range(6)]
    names = [f"k{kind}" for kind in range(3) for _ in range(6)]
    model = fit(train, names)
    found = told(model, [mel(kind, 50 + kind) - 3 for kind in range(3)])
    assert found == ["k0", "k1", "k2"]


def test_features_are_blind_to_level():
    one = mel(1, 0)
    assert np.allclose(features(one), features(one + 2), atol=1e-4)


def test_a_planted_copy_is_found_inside_a_longer_clip():
    long = np.concatenate([mel(0, 1), mel(2, 2, 64), mel(1, 3), mel(0, 4)])
    copy = long[320:576]
    distance = nearest([copy, mel(1, 9)], [mel(2, 7), long, mel(0, 8, 32)])
    assert distance[0] < 0.01
    assert distance[1] > 0.1
