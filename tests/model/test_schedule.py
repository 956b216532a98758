import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from audioldm_utils.errors import UserError
from audioldm_utils.model.schedule import PLACEMENTS, Schedule, place, training_alphas_bar
from tests.oracle import CONFIG, oracle, white

TRAIN = {k: v for k, v in CONFIG.items() if k not in ("set_alpha_to_one", "prediction_type")}
CURVE = training_alphas_bar(CONFIG)


def loop(ours, theirs, steps, output, **options):
    """Largest difference over a loop that feeds both with the same noise.

    At high noise x0 is the output over sqrt(alpha-bar), times 90: float32 leaves some 1e-4.
    """
    theirs.set_timesteps(steps)
    assert [int(t) for t in theirs.timesteps] == list(ours.timesteps)
    x = y = white(2, (3, 5), seed=1)
    worst = 0.0
    for i, t in enumerate(ours.timesteps):
        out = output(x, i)
        noise = white(2, (3, 5), seed=100 + i)
        x = ours.step(i, x, out, noise)
        if isinstance(theirs, DDIMScheduler):
            y = theirs.step(out, int(t), y, variance_noise=noise, **options).prev_sample
        else:
            mean = theirs.step(out, int(t), y, generator=torch.Generator().manual_seed(i))
            drawn = torch.randn(y.shape, generator=torch.Generator().manual_seed(i))
            spread = theirs._get_variance(int(t)) ** 0.5
            y = mean.prev_sample - spread * drawn + spread * noise
        worst = max(worst, float((x - y).abs().max()))
        y = x
    return worst


def wave(x, i):
    return torch.sin(3 * x + i)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [10, 100])
def test_equals_ddpm_where_its_arithmetic_is_right(prediction, steps):
    theirs = DDPMScheduler(**TRAIN, prediction_type=prediction, clip_sample=False)
    theirs.config.timestep_spacing = "leading"
    ours = Schedule.from_config({**CONFIG, "prediction_type": prediction}, steps)
    assert loop(ours, theirs, steps, wave) < 5e-4


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_equals_ddim_at_any_eta(prediction, eta):
    theirs = DDIMScheduler(
        **TRAIN, prediction_type=prediction, clip_sample=False, set_alpha_to_one=True
    )
    ours = Schedule.from_config({**CONFIG, "prediction_type": prediction}, 50, eta=eta)
    assert loop(ours, theirs, 50, wave, eta=eta) < 5e-4


def test_differs_from_ddim_where_t_minus_1000_over_steps_misses_the_next_step():
    theirs = DDIMScheduler(
        **TRAIN, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    theirs.set_timesteps(30)
    ours = Schedule.from_config(CONFIG, 30, placement="trailing")
    assert [int(t) for t in theirs.timesteps] == list(ours.timesteps)
    missed = [abs((now - 1000 // 30) - after) for now, after in pairwise(ours.timesteps)]
    assert max(missed) == 1
    linspace = Schedule.from_config(CONFIG, 300, placement="linspace").timesteps
    gaps = [a - b - 1000 // 300 for a, b in pairwise(linspace)]
    assert max(gaps) == 1
    # at the end the published configuration stops short of the denoised value; ours does not
    x, out = white(1, (4,)), white(1, (4,), seed=2)
    short = DDIMScheduler(**TRAIN, clip_sample=False, set_alpha_to_one=False)
    short.set_timesteps(50)
    ours = Schedule.from_config(CONFIG, 50)
    final = ours.step(49, x, out)
    assert torch.equal(final, ours.predict_x0(49, x, out))
    theirs_final = short.step(out, int(short.timesteps[-1]), x, eta=0.0).prev_sample
    assert float((final - theirs_final).abs().max()) > 1e-3


def test_sigma_and_mean_by_hand():
    schedule = Schedule(timesteps=(500, 100), alphas_bar=(0.25, 0.64), eta=0.5)
    assert schedule.sigma(0) == pytest.approx(0.5 * math.sqrt(0.36 / 0.75 * (1 - 0.25 / 0.64)))
    assert schedule.sigma(1) == 0.0
    x, eps = torch.tensor([1.0]), torch.tensor([0.2])
    x0 = (1.0 - math.sqrt(0.75) * 0.2) / 0.5
    expected = 0.8 * x0 + math.sqrt(0.36 - schedule.sigma(0) ** 2) * 0.2
    assert schedule.mean(0, x, eps).item() == pytest.approx(expected, rel=1e-6)
    assert schedule.step(1, x, eps).item() == pytest.approx((1 - 0.6 * 0.2) / 0.8, rel=1e-6)
    with pytest.raises(ValueError, match="adds noise"):
        schedule.step(0, x, eps)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_marginal_variance_is_kept(eta):
    """With the exact denoiser of N(0, I), samples end with std 1; eta unsquared gave 0.59."""
    schedule = Schedule.from_config(CONFIG, 200, eta=eta)
    denoise, x = oracle(), white(1, (20000,))
    for i, t in enumerate(schedule.timesteps):
        x = schedule.step(i, x, denoise(x, t), white(1, (20000,), seed=i + 1))
    assert float(x.std()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("steps", [1, 2, 7, 30, 333, 999, 1000])
def test_timesteps_fall_and_are_distinct(placement, steps):
    for stop in (0.5, 0.97):
        timesteps = place(CURVE, steps, placement, stop=stop, offset=1)
        assert len(timesteps) == steps
        assert all(a > b for a, b in pairwise(timesteps))
        assert timesteps[0] <= 999
        assert timesteps[-1] >= 0


def test_placements_do_what_they_say():
    assert place(CURVE, 4, "uniform", offset=1) == (751, 501, 251, 1)
    assert place(CURVE, 1000, "uniform", offset=1) == tuple(range(999, -1, -1))
    bars = CURVE[list(place(CURVE, 40, "alpha-bar", stop=0.9))]
    assert abs(bars - torch.linspace(float(CURVE[-1]), 0.9, 40).numpy()).max() < 2e-3
    bars = CURVE[list(place(CURVE, 40, "alpha-bar", stop=0.9, power=0.25))]
    roots = bars**0.25
    assert abs(roots - torch.linspace(float(roots[0]), 0.9**0.25, 40).numpy()).max() < 5e-3
    bars = CURVE[list(place(CURVE, 20, "log-snr", stop=0.9))]
    odds = np.log(bars / (1 - bars))
    assert abs(np.diff(odds) - np.diff(odds).mean()).max() < 0.06
    # the whole configuration is its timesteps: a golden value, for files written long ago
    assert place(CURVE, 8, "alpha-bar", stop=0.97) == (999, 476, 372, 296, 228, 163, 96, 18)


@pytest.mark.parametrize(
    "kind", ["linear", "scaled_linear", "squaredcos_cap_v2", "trained", "zero-snr"]
)
def test_alphas_bar_are_those_of_diffusers(kind):
    config = {**TRAIN, "beta_schedule": "scaled_linear" if kind == "zero-snr" else kind}
    if kind == "trained":
        config = {"trained_betas": [0.01, 0.02, 0.03], "num_train_timesteps": 3}
    config["rescale_betas_zero_snr"] = kind == "zero-snr"
    theirs = DDIMScheduler(**config).alphas_cumprod.double().numpy()
    assert abs(training_alphas_bar(config) - theirs).max() < 2e-6


def test_what_cannot_be_used_is_refused():
    with pytest.raises(UserError, match="steps must lie between 1 and 1000"):
        Schedule.from_config(CONFIG, 1001)
    with pytest.raises(UserError, match="placement 'cosine'"):
        Schedule.from_config(CONFIG, 10, placement="cosine")
    with pytest.raises(UserError, match="stop is an alpha-bar"):
        Schedule.from_config(CONFIG, 10, placement="alpha-bar", stop=1.5)
    with pytest.raises(UserError, match="power must be positive"):
        Schedule.from_config(CONFIG, 10, placement="alpha-bar", power=0)
    with pytest.raises(UserError, match="eta must lie"):
        Schedule.from_config(CONFIG, 10, eta=1.5)
    with pytest.raises(UserError, match="prediction_type 'flow'"):
        Schedule.from_config({**CONFIG, "prediction_type": "flow"}, 10)
    with pytest.raises(UserError, match="beta_schedule 'wild'"):
        Schedule.from_config({**CONFIG, "beta_schedule": "wild"}, 10)
    with pytest.raises(UserError, match="fall strictly"):
        Schedule.from_config(CONFIG, placement=[10, 20])
    with pytest.raises(UserError, match="steps is 3"):
        Schedule.from_config(CONFIG, 3, placement=[20, 10])
    with pytest.raises(UserError, match="are empty"):
        Schedule.from_config(CONFIG, placement=[])
    with pytest.raises(UserError, match="number of steps"):
        Schedule.from_config(CONFIG)
    with pytest.raises(UserError, match="pure noise"):
        Schedule.from_config({**CONFIG, "rescale_betas_zero_snr": True}, 1000)
    assert Schedule.from_config(CONFIG, placement=[900, 500, 3]).timesteps == (900, 500, 3)
