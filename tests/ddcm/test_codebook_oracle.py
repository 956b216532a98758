"""Codec against theory, with exact denoisers and no weights."""

import math

import numpy as np
import pytest
import torch

from audioldm_utils.ddcm.codebook import CyclicShift, Gaussian, make
from audioldm_utils.model.schedule import Schedule
from audioldm_utils.studies.codebook_theory import (
    efficiency,
    expected_cosine,
    expected_cosine_greedy,
    expected_cosine_top,
    expected_efficiency,
    expected_maximum,
    rate_distortion_correlation,
    rate_distortion_gaussian,
)
from tests.oracle import CONFIG, correlation, oracle, run, white

SMALL = (8, 32, 16)
"""4,096 values: 1.28 s of AudioLDM2 latents."""
LARGE = (8, 256, 16)
"""32,768 values: 10.24 s."""


def follow(book, steps, atoms=1, batch=2, **placement):
    """Correlation of the decoded clips with the input, and bits a value."""
    schedule = Schedule.from_config(CONFIG, steps, **placement)
    x0 = white(batch, book.shape, seed=11)
    result, choices = run(schedule, book, oracle(), x0, atoms=atoms)
    decoded, _ = run(schedule, book, oracle(), choices=choices)
    assert torch.equal(decoded, result)
    rate = schedule.noisy_steps * book.bits(atoms) / book.values
    return sum(correlation(result, x0)) / batch, rate


def test_the_papers_codebook_at_1000_steps():
    """K = 64 gives 0.76 at 1.46 bits a value.

    K = 1024 and 1000 steps (0.89) makes 4 x 10^9 normal values; that run, of the same code, is
    in book/evidence/codebook_oracle.csv. Here it has a quarter of the steps and of the latents.
    """
    reached, rate = follow(Gaussian(SMALL, size=64), 1000, batch=1)
    assert rate == pytest.approx(1.463, abs=1e-3)
    assert reached == pytest.approx(0.76, abs=0.02)
    quarter = (8, 8, 16)
    reached, rate = follow(Gaussian(quarter, size=1024), 250, batch=4)
    assert rate == pytest.approx(2.43, abs=0.01)
    assert reached == pytest.approx(0.89, abs=0.02)


def test_random_choices_do_not_follow_the_input():
    book = CyclicShift(SMALL)
    schedule = Schedule.from_config(CONFIG, 200)
    result, choices = run(schedule, book, oracle(), batch=4)
    assert max(abs(c) for c in correlation(result, white(4, SMALL, seed=11))) < 0.05
    assert float(result.std()) == pytest.approx(1, abs=0.04)
    assert torch.equal(run(schedule, book, oracle(), choices=choices)[0], result)


def test_where_the_steps_lie():
    """200 steps of one atom, 30 of eight: uniform in alpha-bar against uniform in t."""
    book = CyclicShift(SMALL)
    best, rate = follow(book, 200, placement="alpha-bar", stop=0.9)
    assert rate == pytest.approx(0.63, abs=0.01)
    assert 0.69 <= best < rate_distortion_correlation(rate) < 0.77
    assert follow(book, 200)[0] == pytest.approx(0.61, abs=0.015)
    best, rate = follow(book, 30, atoms=8, placement="alpha-bar")
    assert rate == pytest.approx(0.74, abs=0.01)
    assert 0.73 <= best < rate_distortion_correlation(rate)
    assert follow(book, 30, atoms=8)[0] == pytest.approx(0.65, abs=0.02)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_the_kind_of_prediction_does_not_matter(prediction):
    config = {**CONFIG, "prediction_type": prediction}
    book, x0 = CyclicShift((4, 16, 4)), white(1, (4, 16, 4))
    first, _ = run(Schedule.from_config(CONFIG, 40), book, oracle(), x0)
    second, _ = run(Schedule.from_config(config, 40), book, oracle(config), x0)
    assert torch.allclose(first, second, atol=1e-3)


def test_a_prior_with_structure_does_better_than_a_white_one_at_equal_rate():
    shape, n = (2, 32, 4), 256
    place = np.arange(n)
    covariance = np.exp(-abs(place[:, None] - place[None, :]) / 12)
    root = np.linalg.cholesky(covariance + 1e-9 * np.eye(n))
    x0 = (white(8, (n,)) @ torch.from_numpy(root).float().T).reshape(8, *shape)
    book = CyclicShift(shape)
    schedule = Schedule.from_config(CONFIG, 20, placement="alpha-bar", stop=0.99)
    rate = schedule.noisy_steps * book.bits(1) / n
    known, _ = run(schedule, book, oracle(covariance=covariance), x0)
    ignorant, _ = run(schedule, book, oracle(), x0)
    bound = rate_distortion_gaussian(np.linalg.eigvalsh(covariance).clip(min=0), rate)
    reached = sum(correlation(known, x0)) / 8
    assert reached > sum(correlation(ignorant, x0)) / 8 + 0.1
    assert 0.85 * bound < reached < bound


def smooth(residual, rows, columns):
    """Circular Gaussian smoothing over time (rows) and frequency (columns), in places."""
    for axis, width in ((2, rows), (3, columns)):
        frequency = torch.fft.rfftfreq(residual.shape[axis])
        gain = torch.exp(-2 * (math.pi * width * frequency) ** 2)
        gain = gain.reshape(-1, 1) if axis == 2 else gain
        spectrum = torch.fft.rfft(residual, dim=axis) * gain
        residual = torch.fft.irfft(spectrum, n=residual.shape[axis], dim=axis)
    return residual


def measured(book, atoms, draws, smoothing=None):
    """Efficiency of single choices: mean and lower end of the 95 % interval."""
    values = []
    for first in range(0, draws, 8):
        residual = white(8, book.shape, seed=1000 + first)
        residual = residual if smoothing is None else smooth(residual, *smoothing)
        noise = book.noise(first, book.choose(first, residual, atoms))
        values += correlation(noise, residual)
    got = efficiency(values, book.values, book.bits(atoms))
    return got.mean(), got.mean() - 1.96 * got.std(ddof=1) / math.sqrt(draws)


def test_efficiency_of_cyclic_shifts():
    """At 16, 128 and 512 bits a step; 256 draws of each are in the evidence, fewer here."""
    book = CyclicShift(LARGE)
    assert measured(book, 1, 256)[1] >= 0.79
    assert measured(book, 8, 64)[1] >= 0.79
    assert measured(book, 32, 16)[1] >= 0.79


def test_the_mask_makes_smooth_residuals_as_good_as_white_ones():
    white_mean, _ = measured(CyclicShift(LARGE), 4, 64)
    masked, _ = measured(CyclicShift(LARGE), 4, 64, (8, 2))
    plain, _ = measured(CyclicShift(LARGE, mask=False), 4, 64, (8, 2))
    assert masked >= 0.95 * white_mean
    assert plain < 0.75 * white_mean


def test_turbo_is_less_efficient_the_more_atoms_it_takes():
    shape = (8, 32, 16)
    book = make("turbo", shape, size=2048)
    few, _ = measured(book, 4, 32)
    many, _ = measured(book, 64, 32)
    cyclic, _ = measured(CyclicShift(shape), 16, 32)
    assert many < few < cyclic


def test_theory_by_hand():
    assert expected_maximum(1) == pytest.approx(0, abs=1e-9)
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-6)
    assert expected_maximum(3) == pytest.approx(1.5 / math.sqrt(math.pi), abs=1e-6)
    assert efficiency(math.sqrt(0.75), 10, 10) == pytest.approx(1)
    assert efficiency(-0.5, 10, 10) < 0
    assert efficiency(0.0, 10, 10) == 0
    assert rate_distortion_correlation(1) == pytest.approx(math.sqrt(0.75))
    assert rate_distortion_gaussian([1, 1], 0.7) == pytest.approx(rate_distortion_correlation(0.7))
    # two values of variance 3 and 1 at half a bit: all of it goes to the first, D = (1.5 + 0.5..)
    assert rate_distortion_gaussian([3, 1], 0.25) == pytest.approx(
        math.sqrt(1 - (3 / 2 + 1) / 4), abs=1e-6
    )


def test_theory_is_what_the_codebooks_do():
    shape, values = (4, 16, 8), 512
    residual = white(200, shape, seed=3)
    book = Gaussian(shape, size=64)
    choice = torch.stack([book.choose(i, residual[i : i + 1])[0] for i in range(200)])
    noise = torch.cat([book.noise(i, choice[i : i + 1]) for i in range(200)])
    cosines = correlation(noise, residual)
    assert np.mean(cosines) == pytest.approx(expected_cosine(64, values), abs=0.005)
    got = efficiency(cosines, values, 6).mean()
    assert got == pytest.approx(expected_efficiency(64, values), rel=0.08)
    many = np.mean(correlation(book.noise(0, book.choose(0, residual, 8)), residual))
    assert many == pytest.approx(expected_cosine_greedy(64, 8, values), abs=0.015)
    turbo = make("turbo", shape, size=256)
    many = np.mean(correlation(turbo.noise(0, turbo.choose(0, residual, 20)), residual))
    assert many == pytest.approx(expected_cosine_top(256, 20, values), abs=0.03)
