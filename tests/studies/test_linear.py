"""The best linear denoiser: exact where the answer is known, and no worse anywhere."""

import pytest
import torch

from audioldm_utils.errors import UserError
from audioldm_utils.studies.linear_denoiser import LinearDenoiser


def draws(count, frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(8, frames, 16, generator=generator) for _ in range(count)]


def test_it_is_the_exact_one_for_independent_normal_latents():
    scale = torch.linspace(0.2, 2.0, 128).reshape(8, 1, 16)
    linear = LinearDenoiser.fit([1.0 + scale * z for z in draws(8, 400)], patch=3)
    a = 0.4
    z, noise = (1.0 + scale * draws(1, 200, 5)[0]), draws(1, 200, 6)[0]
    x_t = a**0.5 * z + (1 - a) ** 0.5 * noise
    exact = (1 - a) ** 0.5 * (x_t - a**0.5) / (a * scale.square() + 1 - a)
    error = (linear.noise(x_t, a) - exact).square().mean() / exact.square().mean()
    assert error < 0.02


def test_neighbours_help_where_latents_are_smooth_edges_included():
    smooth = [z.cumsum(1) - 0.5 * z for z in draws(6, 300)]
    smooth = [0.3 * (z - z.mean(1, keepdim=True)) for z in smooth]
    x0, noise, a = smooth[0], draws(1, 300, 9)[0], 0.5
    x_t = a**0.5 * x0 + (1 - a) ** 0.5 * noise
    errors = {}
    for patch in (1, 5):
        missed = (LinearDenoiser.fit(smooth[1:], patch).noise(x_t, a) - noise).square()
        errors[patch] = (missed.mean(), missed[:, [0, 1, -2, -1]].mean())
    assert errors[5][0] < 0.9 * errors[1][0]
    assert errors[5][1] < errors[1][1] * 1.05


def test_its_error_is_known_beforehand():
    smooth = [0.5 * (z[:, 1:] + z[:, :-1]) for z in draws(40, 400)]
    linear = LinearDenoiser.fit(smooth[1:], patch=3)
    for a in (0.9, 0.3, 0.01):
        noise = draws(1, 399, 7)[0]
        missed = linear.noise(a**0.5 * smooth[0] + (1 - a) ** 0.5 * noise, a) - noise
        assert missed[:, 1:-1].square().mean() == pytest.approx(linear.noise_error(a), rel=0.05)


def test_as_a_network_it_follows_the_prediction_type():
    linear = LinearDenoiser.fit(draws(4, 60), patch=3)
    x = torch.stack(draws(2, 20, 3))
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195}
    epsilon = linear.denoiser(config)(x, 400)
    clean = linear.denoiser({**config, "prediction_type": "sample"})(x, 400)
    v = linear.denoiser({**config, "prediction_type": "v_prediction"})(x, 400)
    from audioldm_utils.model.schedule import training_alphas_bar

    a = float(training_alphas_bar(config)[400])
    assert torch.allclose(a**0.5 * clean + (1 - a) ** 0.5 * epsilon, x, atol=1e-4)
    assert torch.allclose(v, a**0.5 * epsilon - (1 - a) ** 0.5 * clean, atol=1e-4)


def test_what_it_cannot_use_is_refused():
    with pytest.raises(UserError, match="no latents"):
        LinearDenoiser.fit([])
    with pytest.raises(ValueError, match="a patch has 9"):
        LinearDenoiser.fit(draws(1, 40)).noise(draws(1, 8)[0], 0.5)
    with pytest.raises(UserError, match="do not fit"):
        LinearDenoiser(torch.zeros(4), torch.zeros(2, 3, 3))
