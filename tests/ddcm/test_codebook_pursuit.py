import itertools
import math
import random

import pytest
import torch

from audioldm_utils.ddcm.codebook import Gaussian, make
from audioldm_utils.ddcm.codebook.base import log2, unit_rms
from audioldm_utils.ddcm.packing import rank_subset, unrank_subset
from tests.oracle import correlation, white

SHAPE = (2, 8, 8)


@pytest.mark.parametrize(("size", "count"), [(7, 3), (6, 6), (5, 1), (8, 4), (4, 0)])
def test_ranking_numbers_all_subsets(size, count):
    ranks = [rank_subset(subset) for subset in itertools.combinations(range(size), count)]
    assert sorted(ranks) == list(range(math.comb(size, count)))
    for rank in ranks:
        assert rank_subset(unrank_subset(rank, size, count)) == rank


def test_ranking_of_large_sets():
    draw = random.Random(0)
    for size, count in [(16384, 300), (1000, 999), (1 << 20, 5)]:
        subset = tuple(sorted(draw.sample(range(size), count)))
        rank = rank_subset(subset)
        assert unrank_subset(rank, size, count) == subset
        assert rank.bit_length() <= math.ceil(log2(math.comb(size, count)))
    last = unrank_subset(math.comb(100, 30) - 1, 100, 30)
    assert last == tuple(range(70, 100))


def test_ranking_refuses_what_is_no_subset():
    with pytest.raises(ValueError, match="ascending"):
        rank_subset([3, 3])
    with pytest.raises(ValueError, match="ascending"):
        rank_subset([-1, 3])
    with pytest.raises(ValueError, match="outside"):
        unrank_subset(math.comb(9, 2), 9, 2)


def test_turbo_takes_the_largest_scores_with_their_signs():
    book = make("turbo", SHAPE, 4, size=300)
    atoms = Gaussian(SHAPE, 4, size=300).noise(2, torch.arange(300)[:, None]).flatten(1)
    residual = white(2, SHAPE)
    choice = book.choose(2, residual, 12)
    scores = residual.flatten(1) @ atoms.T
    for clip in range(2):
        wanted = scores[clip].abs().topk(12).indices.sort().values
        assert torch.equal(choice[clip] // 2, wanted)
        signs = 1 - 2 * (choice[clip] % 2)
        assert torch.equal(signs.float(), scores[clip][wanted].sign())
        total = (signs[:, None] * atoms[wanted]).sum(0)
        noise = book.noise(2, choice)[clip].flatten()
        assert torch.allclose(noise, total / total.pow(2).mean().sqrt(), atol=0.02)
    assert float(noise.pow(2).mean()) == pytest.approx(1, abs=1e-3)
    assert book.states(12) == math.comb(300, 12) * 2**12


def test_matching_pursuit_with_one_coefficient_bit_is_a_no_op_and_with_more_it_helps():
    residual = white(8, SHAPE, seed=2)
    quality = {}
    for coefficient_bits in (1, 2, 3, 4):
        book = make("matching-pursuit", SHAPE, 4, size=128, coefficient_bits=coefficient_bits)
        choice = book.choose(0, residual, 4)
        quality[coefficient_bits] = sum(correlation(book.noise(0, choice), residual))
        assert book.bits(4) == pytest.approx(4 * 7 + 3 * coefficient_bits)
        assert float(book.noise(0, choice).pow(2).mean()) == pytest.approx(1, abs=0.25)
    one = make("gaussian", SHAPE, 4, size=128)
    alone = sum(correlation(one.noise(0, one.choose(0, residual)), residual))
    assert quality[1] == pytest.approx(alone)
    assert quality[2] > alone * 1.05
    assert quality[4] > quality[2]


def test_matching_pursuit_chooses_the_best_pair():
    book = make("matching-pursuit", SHAPE, 4, size=16, coefficient_bits=2)
    residual = white(1, SHAPE)
    first = int(book.choose(0, residual, 1)[0, 0])
    pairs = [[first, k, c] for k in range(16) for c in range(4)]
    noises = book.noise(0, torch.tensor(pairs))
    best = max(correlation(noises, residual.expand_as(noises)))
    chosen = book.noise(0, book.choose(0, residual, 2))
    assert correlation(chosen, residual)[0] == pytest.approx(best, abs=1e-5)


def test_unit_rms_does_not_depend_on_the_order_of_summation():
    rows = white(3, (5000,)) * torch.tensor([[0.3], [1.0], [40.0]])
    made = unit_rms(rows)
    assert torch.allclose(made.pow(2).mean(1), torch.ones(3), atol=1e-3)
    shuffle = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(unit_rms(rows[:, shuffle]), made[:, shuffle])
    assert torch.equal(unit_rms(torch.zeros(1, 4)), torch.zeros(1, 4))


def test_log2_of_huge_integers():
    assert log2(1) == 0
    assert log2(2**5000) == 5000
    assert log2(3**2000) == pytest.approx(2000 * math.log2(3))
