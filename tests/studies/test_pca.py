"""Principal components of mel patches: as many numbers as the VAE, the best that is linear."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audioldm_utils.errors import UserError
from audioldm_utils.studies.pca import COEFFICIENTS, FRAMES, MelPca, load_pca
from tests import tiny


def drifting(frames=FRAMES * 400, bands=12, seed=0):
    """Bands that drift slowly and hang together, as those of a log-mel do."""
    rng = np.random.default_rng(seed)
    x = np.zeros((frames, bands))
    steps = rng.standard_normal((frames, bands)) @ rng.standard_normal((bands, bands))
    for i in range(1, frames):
        x[i] = 0.9 * x[i - 1] + steps[i]
    return x - 5


def error(mel, made):
    return float(np.mean((mel[: len(made)] - made) ** 2))


def test_they_are_as_many_numbers_as_the_latents_of_a_patch():
    with torch.no_grad():
        latents = tiny.vae().encode(torch.zeros(1, 1, FRAMES, 64)).latent_dist.mean
    assert latents.numel() == COEFFICIENTS == len(load_pca().vectors)


def test_all_components_lose_nothing_and_fewer_lose_more():
    mel = drifting()
    errors = []
    for components in (FRAMES * 12, 96, 24):
        fitted = MelPca.fit([mel], components)
        assert fitted.encode(mel).shape == (len(mel) // FRAMES, components)
        errors.append(error(mel, fitted.decode(fitted.encode(mel))))
    assert errors[0] < 1e-20 < errors[1] < errors[2]


def test_no_linear_map_of_as_many_numbers_is_nearer():
    """Any encoder whatever, with the decoder that is best for it on these very patches."""
    mel, components = drifting(), 96
    fitted = MelPca.fit([mel], components)
    least = error(mel, fitted.decode(fitted.encode(mel)))
    patches = (mel - fitted.mean).reshape(-1, FRAMES * mel.shape[1])
    bound = np.sum(np.linalg.svd(patches, compute_uv=False)[components:] ** 2) / patches.size
    # Cosines along time are the free components, but for the patches' edges.
    assert bound < least < 2 * bound
    rng = np.random.default_rng(1)
    pooling = np.kron(np.kron(np.eye(FRAMES // 2), np.ones((2, 1))), np.eye(mel.shape[1]))
    for encoder in (rng.standard_normal((patches.shape[1], components)), pooling):
        codes = patches @ encoder
        decoder, *_ = np.linalg.lstsq(codes, patches, rcond=None)
        assert np.mean((patches - codes @ decoder) ** 2) > least > bound


def test_the_shipped_components_are_of_mels():
    fitted = load_pca()
    quiet = torch.full((2, FRAMES + 3, 64), -11.0)
    made = fitted.reconstruct(quiet)
    assert made.shape == quiet.shape
    assert (made - quiet).abs().mean() < 0.15
    assert np.abs(fitted.mean + 6).max() < 4
    gram = fitted.vectors[fitted.orders == 0] @ fitted.vectors[fitted.orders == 0].T
    assert np.allclose(gram, np.eye(len(gram)), atol=2e-3)


def test_what_is_no_such_file_is_said(tmp_path):
    path = tmp_path / "pca.safetensors"
    with pytest.raises(UserError, match="install the package anew"):
        load_pca(path)
    MelPca.fit([drifting()], 8).save(path)
    assert load_pca(path).vectors.shape == (8, 12)
    with pytest.raises(ValueError, match="16 frames"):
        MelPca.fit([np.zeros((3, 64))])
