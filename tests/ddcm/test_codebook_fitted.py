import math
import os

import numpy as np
import pytest
import torch

from audioldm_utils.ddcm.codebook import CyclicShift, Gaussian, KMeans, make
from audioldm_utils.ddcm.codebook.fitted import (
    VectorQuantiser,
    from_blocks,
    load_fitted,
    load_kmeans,
    load_quantiser,
    nearest,
    to_blocks,
)
from audioldm_utils.ddcm.placement import PLACEMENT_BY_RATE, plan_rate
from audioldm_utils.ddcm.quality import find_rate
from audioldm_utils.errors import UserError
from audioldm_utils.model import fits
from audioldm_utils.model.fits import fitted_path
from audioldm_utils.studies.codebook_fits import (
    fit_centres,
    fit_directions,
    fit_vectors,
    save_kmeans,
    save_quantiser,
)
from tests.oracle import correlation, white

SHAPE = (2, 16, 8)


def structured(batch, seed):
    """Latents with strong correlation in time and across channels."""
    z = white(batch, SHAPE, seed=seed)
    z = z.cumsum(2) / 2
    return z - z.mean(2, keepdim=True) + 0.7 * z.flip(1)


@pytest.mark.parametrize("shape", [(2, 16, 8), (3, 5, 7), (1, 1, 1)])
@pytest.mark.parametrize("block", [(1, 1), (2, 4), (4, 3)])
def test_blocks_come_back(shape, block):
    z = white(2, shape)
    rows = to_blocks(z, block)
    assert rows.shape[2] == shape[0] * block[0] * block[1]
    assert torch.equal(from_blocks(rows, shape, block), z)
    assert torch.equal(rows[1, 0].reshape(shape[0], *block)[:, 0, 0], z[1, :, 0, 0])


def test_kmeans_finds_well_separated_clusters():
    truth = torch.tensor([[10.0, 0], [0, 10], [-10, -10]])
    rows = (truth[:, None] + 0.1 * white(3, (50, 2))).reshape(-1, 2)
    centres = fit_centres(rows, 3, seed=1)
    found = centres[nearest(truth, centres)]
    assert torch.allclose(found, truth, atol=0.1)
    assert torch.equal(centres, fit_centres(rows, 3, seed=1))
    lines = torch.cat([rows[:100], -rows[:100]])
    directions = fit_directions(lines, 2, seed=0)
    assert torch.allclose(directions.norm(dim=1), torch.ones(2))
    assert sorted(directions.abs().argmax(1).tolist()) == [0, 1]


def test_fitted_directions_beat_normal_atoms_on_held_out_residuals_at_equal_rate():
    rows = torch.cat([to_blocks(structured(200, 1), (4, 4))]).flatten(0, 1)
    fitted = KMeans(SHAPE, centres=fit_directions(rows, 32), block=(4, 4))
    assert fitted.centres.shape == (32, 32)
    held_out = structured(50, 2)
    choice = fitted.choose(0, held_out)
    assert choice.shape == (50, 8)
    assert fitted.bits() == pytest.approx(8 * 6)
    reached = np.mean(correlation(fitted.noise(0, choice), held_out))
    cyclic = CyclicShift(SHAPE)  # 9 bits an atom, six of them: 54 bits
    other = np.mean(correlation(cyclic.noise(0, cyclic.choose(0, held_out, 6)), held_out))
    assert cyclic.bits(6) >= fitted.bits()
    assert reached > other + 0.05
    noise = fitted.noise(0, choice)
    assert torch.allclose(to_blocks(noise, (4, 4)).pow(2).mean(2), torch.ones(50, 8), atol=0.02)


def test_hard_quantisation_takes_the_nearest_centre():
    centres = white(1, (5, 2), seed=4)
    quantiser = VectorQuantiser(centres)
    z = white(3, SHAPE)
    distance = ((z.permute(0, 2, 3, 1)[..., None, :] - centres[0]) ** 2).sum(-1)
    wanted = centres[0][distance.argmin(-1)].permute(0, 3, 1, 2)
    assert torch.equal(quantiser.hard(z), wanted)
    assert quantiser.bits(SHAPE) == pytest.approx(128 * math.log2(5))
    assert torch.equal(quantiser.decode(quantiser.encode(z), SHAPE), wanted)


def test_soft_quantisation_runs_from_hard_to_the_mean():
    quantiser = fit_vectors(list(structured(40, 1)), 16)
    z = structured(4, 2)
    assert torch.equal(quantiser.soft(z, 0), quantiser.hard(z))
    assert torch.allclose(quantiser.soft(z, 1e-6), quantiser.hard(z), atol=1e-3)
    mean = quantiser.centres[0].mean(0)[None, :, None, None].expand_as(z)
    assert torch.allclose(quantiser.soft(z, 1e9), mean, atol=1e-4)
    by_hand = torch.softmax(-((z[0, :, 3, 5] - quantiser.centres[0]) ** 2).sum(1) / 0.5, 0)
    wanted = by_hand @ quantiser.centres[0]
    assert torch.allclose(quantiser.soft(z, 0.5)[0, :, 3, 5], wanted, atol=1e-4)


def test_fitting_and_further_stages_lower_the_error_on_held_out_latents():
    train, held_out = list(structured(60, 1)), structured(20, 2)
    rows = torch.cat([z.flatten(1).T for z in train])
    drawn = torch.randn(32, rows.shape[1], generator=torch.Generator().manual_seed(0))
    random = VectorQuantiser((drawn * rows.std(0) + rows.mean(0))[None])
    before, after = (
        float((one.hard(held_out) - held_out).pow(2).mean())
        for one in (random, fit_vectors(train, 32))
    )
    assert after < 0.8 * before
    staged = fit_vectors(train, 32, block=(2, 2), stages=3)
    by_stage = [float((staged.hard(held_out, s) - held_out).pow(2).mean()) for s in (1, 2, 3)]
    assert by_stage == sorted(by_stage, reverse=True)
    assert by_stage[2] < 0.7 * by_stage[0]
    assert staged.bits(SHAPE, stages=2) == 2 * 32 * 5
    assert torch.equal(staged.hard(held_out)[3:4], staged.hard(held_out[3:4]))


def test_fitted_parts_are_stored_in_the_checkpoint_under_its_fingerprint(tmp_path, monkeypatch):
    folder, fingerprint = tmp_path / "mini", "ab" * 32
    folder.mkdir()
    quantiser = fit_vectors(list(structured(10, 1)), 8, block=(2, 1), stages=2)
    path = save_quantiser(folder, fingerprint, "vq", quantiser, {"vectors": 640})
    assert path == folder / "fitted" / fingerprint[:16] / "vq.safetensors"
    monkeypatch.setenv("AUDIOLDM_UTILS_FITS", str(tmp_path / "mine"))
    assert fitted_path(folder, fingerprint, "vq").parents[1] == tmp_path / "mine"
    monkeypatch.delenv("AUDIOLDM_UTILS_FITS")
    with monkeypatch.context() as patch:
        # Where one cannot write, what is there is found, and what is not goes to the user's cache.
        patch.setattr(os, "access", lambda path, mode: False)
        patch.setattr(fits, "user_cache", lambda: tmp_path / "cache")
        assert fitted_path(folder, fingerprint, "vq") == path
        other = fitted_path(folder, fingerprint, "rvq")
        assert other == tmp_path / "cache" / "fitted" / fingerprint[:16] / "rvq.safetensors"
    first = path.read_bytes()
    save_quantiser(folder, fingerprint, "vq", quantiser, {"vectors": 640})
    assert path.read_bytes() == first
    back = load_quantiser(folder, fingerprint, "vq")
    assert back.block == (2, 1)
    assert torch.equal(back.centres, quantiser.centres.half().float())
    assert load_fitted(folder, fingerprint, "vq")[1]["vectors"] == 640
    rows = to_blocks(structured(20, 1), (4, 4)).flatten(0, 1)
    save_kmeans(folder, fingerprint, "k-means", fit_directions(rows, 8), (4, 4), {})
    book = load_kmeans(folder, fingerprint, SHAPE, seed=5)
    assert book.size == 16
    digest = book.digest
    assert load_kmeans(folder, fingerprint, SHAPE, digest=digest).digest == digest
    with pytest.raises(UserError, match="audioldm-utils fit"):
        load_quantiser(folder, "cd" * 32, "vq")
    path.write_bytes(first[:100])
    with pytest.raises(UserError, match="damaged"):
        load_quantiser(folder, fingerprint, "vq")
    other = fitted_path(folder, "abababababababab" + "00" * 24, "vq")
    other.write_bytes(first)
    with pytest.raises(UserError, match="another checkpoint"):
        load_quantiser(folder, "abababababababab" + "00" * 24, "vq")
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(UserError, match="cannot fit a codebook of 500"):
        fit_vectors([white(1, SHAPE)[0]], 500)
    with pytest.raises(UserError, match="cannot fit a codebook of 500"):
        fit_directions(white(10, (4,)), 500)
    with pytest.raises(ValueError, match="do not cut"):
        VectorQuantiser(white(1, (5, 8))).hard(white(1, SHAPE))
    with pytest.raises(UserError, match="must be \\(stages"):
        VectorQuantiser(white(5, (8,)))
    with pytest.raises(UserError, match="temperature"):
        VectorQuantiser(white(1, (5, 2))).soft(white(1, SHAPE), -1)


@pytest.mark.parametrize("kbps", [0.05, 0.1, 0.3, 0.5, 1.7, 5.0])
@pytest.mark.parametrize("name", ["cyclic", "gaussian", "turbo", "matching-pursuit"])
def test_a_planned_rate_is_met_and_not_exceeded(kbps, name):
    book = make(name, (8, 256, 16), **({"size": 16384} if name == "turbo" else {}))
    overhead = 384 if kbps > 0.1 else 0
    plan = plan_rate(book, kbps, 10.24, max_steps=50, overhead_bits=overhead)
    spent = (sum(book.bits(m) for m in plan.atoms) + overhead) / 10240
    assert kbps - 2 * book.bits(1) / 10240 < spent <= kbps
    assert len(plan.atoms) == plan.steps - 1 <= 49
    assert max(plan.atoms) - min(plan.atoms) <= 1
    assert (plan.placement, plan.power, plan.stop) in [rule[1:] for rule in PLACEMENT_BY_RATE]


def test_plans_at_the_ends():
    book = CyclicShift((8, 256, 16))
    plan = plan_rate(book, 0.02, 10.24)  # 204 bits: 12 atoms of 16
    assert plan.atoms == (1,) * 12
    with pytest.raises(UserError, match=r"too low for a clip of 10\.24 s"):
        plan_rate(book, 0.001, 10.24)
    with pytest.raises(UserError, match="must be positive"):
        plan_rate(book, 0.0, 10.24)
    blocks = KMeans(SHAPE, centres=white(4, (32,)), block=(4, 4))
    plan = plan_rate(blocks, 5.0, 1.0, max_steps=20)
    assert plan.atoms == (1,) * 19
    assert Gaussian(SHAPE, size=4).bits(3) == 6


def test_finding_a_rate_for_a_quality():
    calls = []

    def distance(kbps):
        calls.append(kbps)
        return 1 / kbps

    assert find_rate(distance, 0.5, 0.1, 10, 0.05) == pytest.approx(2, rel=0.06)
    assert distance(find_rate(distance, 0.5, 0.1, 10, 0.05)) <= 0.5
    assert len(calls) < 25
    assert find_rate(distance, 20, 0.1, 10, 0.05) == 0.1
    with pytest.raises(UserError, match="not reached"):
        find_rate(distance, 0.01, 0.1, 10, 0.05)
