"""The VAE's linear chain: grafted and folded, it computes what it did."""

import numpy as np
import pandas as pd
import pytest
import torch
from recipe import linear_vae
from recipe.split import HELD_OUT, LARGEST, recordings, tune_mask
from recipe.vae import build_vae


@pytest.fixture(scope="module")
def chain():
    torch.manual_seed(0)
    vae = build_vae()
    linear_vae.normalise_ends(vae)
    linear_vae.preserve_variance(vae)
    return vae


def mel(seed=0, frames=32):
    return torch.randn(2, 1, frames, 64, generator=torch.Generator().manual_seed(seed)) * 3 - 5


@torch.no_grad()
def test_the_chain_is_linear(chain):
    zero = linear_vae.encode_linear(chain, torch.zeros(1, 1, 16, 64))
    a, b = mel(1, 16)[:1], mel(2, 16)[:1]
    both = linear_vae.encode_linear(chain, a + b)
    apart = linear_vae.encode_linear(chain, a) + linear_vae.encode_linear(chain, b) - zero
    assert torch.allclose(both, apart, atol=1e-4)


@torch.no_grad()
def test_the_whole_network_computes_what_the_chain_did(chain):
    import copy

    vae, x = copy.deepcopy(chain), mel()
    wanted = linear_vae.decode_linear(vae, linear_vae.encode_linear(vae, x))
    linear_vae.graft(vae, x)
    found = vae.decode(vae.encode(x).latent_dist.mode()).sample
    # The normalisation's scale still moves a little with the signal.
    assert (found - wanted).abs().mean() < 0.1 * (wanted - wanted.mean()).abs().mean()


@torch.no_grad()
def test_folding_and_unfolding_change_nothing(chain):
    import copy

    vae, x = copy.deepcopy(chain), mel()
    linear_vae.graft(vae, x)
    before = vae.decode(vae.encode(x).latent_dist.mode()).sample
    linear_vae.fold(vae)
    assert type(vae.encoder.conv_in) is torch.nn.Conv2d
    folded = vae.decode(vae.encode(x).latent_dist.mode()).sample
    linear_vae.unfold(vae)
    unfolded = vae.decode(vae.encode(x).latent_dist.mode()).sample
    # At the edges too: padding is the raw zero throughout.
    assert torch.allclose(before, folded, atol=1e-3)
    assert torch.allclose(folded, unfolded, atol=1e-3)


def table():
    rows = [("dog", f"dog/{k}.ogg") for k in range(40)]
    rows += [("rain", f"rain/{k // 2}.ogg@{k}.5s") for k in range(60)]  # two excerpts of each
    rows += [("piano", ";".join(f"note{(k + i) % 9}.wav" for i in range(3))) for k in range(30)]
    return pd.DataFrame(
        [
            {"file": f"train/{n:03}.flac", "class": kind, "source_repo": "a", "source_path": path}
            for n, (kind, path) in enumerate(rows)
        ]
    )


def test_clips_that_share_a_source_are_one_recording():
    clips = table()
    names = recordings(clips)
    assert len(set(names[:40])) == 40
    assert len(set(names[40:100])) == 30
    assert len(set(names[100:])) == 1  # the notes tie all of them together


def test_whole_recordings_are_held_out_and_none_that_is_large():
    clips = table()
    names, held = recordings(clips), tune_mask(clips)
    assert len(set(names[held])) == HELD_OUT
    assert not set(names[held]) & set(names[~held])
    assert pd.Series(names[held]).value_counts().max() <= LARGEST
    shuffled = clips.sample(frac=1, random_state=1)
    again = set(shuffled["file"][tune_mask(shuffled)])
    assert len(again & set(clips["file"][held])) > 0.9 * len(again)
    assert np.array_equal(held, tune_mask(clips))
