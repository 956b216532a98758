"""What diffusers asks of every scheduler, asked of ``DDCMScheduler`` in our own words.

After ``SchedulerCommonTest`` and ``DDIMSchedulerTest`` of diffusers (``tests/schedulers``). Where
those compare with numbers of their own runs, these compare with ``DDIMScheduler`` itself.

Not asked, and why:

* ``SchedulerBaseTests``: what ``ConfigMixin`` says of unexpected entries and how other schedulers
  choose their solver; neither is ours. That a spacing is kept when schedulers are exchanged is.
* ``test_push_to_hub*``: needs an account and a network.
* ``test_clip_sample`` and ``test_thresholding`` with either on: refused, since a denoised value
  that is clipped cannot be led; that they are refused is asked instead.
* A step at a timestep of one's choice (0 and 1 in ``test_step_shape`` and others), in any order:
  a codebook's choice belongs to a step, so only timesteps of the schedule are taken, one after
  another. The same is asked at those, and that others are refused.
* ``eta`` and ``use_clipped_model_output`` as arguments of ``step``: eta is part of the
  configuration, since codes are replayed under it and pipelines would pass 0 unasked.
* ``set_alpha_to_one=False``: the last step always gives the denoised value; the entry is kept in
  the configuration for other schedulers and read by none of ours.
* ``_get_variance`` is private; the variance is asked of ``Schedule.sigma`` against DDIM's.
* Exact leading timesteps where the steps do not divide the training timesteps: diffusers cuts the
  spacing to an integer, so that 300 steps of 1000 end at 897; ours spread over all.
* ``test_betas`` with the two largest ranges, which end at alpha-bar below 1e-12: epsilon prediction
  cannot start from pure noise, and is refused.
* A generator that is advanced at each step: it is read once, at the first.
"""

import inspect
import logging

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, LMSDiscreteScheduler

from audioldm_utils.ddcm import DDCMScheduler
from audioldm_utils.errors import UserError

CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}
# What other schedulers do with NumPy is theirs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SAMPLE = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
RESIDUAL = 0.1 * SAMPLE


def make(**changes):
    return DDCMScheduler(**{**CONFIG, **changes})


def ddim(**changes):
    return DDIMScheduler(**{**CONFIG, "clip_sample": False, **changes})


def seeded():
    return torch.Generator().manual_seed(0)


def network(sample, t):
    return sample * t / (t + 1)


def run(scheduler, steps, sample=SAMPLE, begin=0, **options):
    scheduler.set_timesteps(steps)
    if begin:
        scheduler.set_begin_index(begin)
    for t in scheduler.timesteps[begin:]:
        sample = scheduler.step(network(sample, t), t, sample, **options).prev_sample
    return sample


# --- configurations -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        *({"num_train_timesteps": n} for n in (100, 500, 1000)),
        *({"steps_offset": n} for n in (0, 1)),
        *({"beta_start": a, "beta_end": 20 * a} for a in (0.0001, 0.001)),
        *({"beta_schedule": s} for s in ("linear", "scaled_linear", "squaredcos_cap_v2")),
        *({"prediction_type": p} for p in ("epsilon", "v_prediction", "sample")),
        *({"timestep_spacing": s} for s in ("leading", "trailing", "linspace")),
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        *({"eta": e} for e in (0.0, 0.5, 1.0)),
        {"placement": "alpha-bar", "stop": 0.9, "power": 0.5},
        {"codebook": "gaussian", "size": 16, "atoms": 2},
    ],
)
def test_a_saved_scheduler_steps_as_the_first_did(changes, tmp_path):
    first = make(**changes)
    first.save_pretrained(tmp_path)
    second = DDCMScheduler.from_pretrained(tmp_path)
    assert {k: v for k, v in first.config.items() if k != "_use_default_values"} == second.config
    for scheduler in (first, second):
        scheduler.set_timesteps(5)
    for t in first.timesteps[:3]:
        found = [s.step(RESIDUAL, t, SAMPLE, generator=seeded()) for s in (first, second)]
        assert torch.equal(found[0].prev_sample, found[1].prev_sample)
        assert found[0].prev_sample.shape == SAMPLE.shape
        assert torch.isfinite(found[0].prev_sample).all()
    for name in ("betas", "alphas", "alphas_cumprod"):
        assert torch.equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("steps", [1, 10, 50, 500])
def test_any_number_of_steps(steps):
    assert run(make(), steps, generator=seeded()).shape == SAMPLE.shape


def test_numbers_of_steps_that_are_none():
    for steps in (0, -1, 1001):
        with pytest.raises(UserError, match="steps must lie between 1 and 1000"):
            make().set_timesteps(steps)


def test_epsilon_from_pure_noise_is_refused():
    with pytest.raises(UserError, match="ends in pure noise"):
        make(beta_start=0.01, beta_end=0.2).set_timesteps(5)


def test_clipping_is_refused():
    for name in ("clip_sample", "thresholding"):
        with pytest.raises(UserError, match=name):
            make(**{name: True})


def test_exchanged_for_every_compatible_scheduler_and_back():
    first = make(timestep_spacing="trailing", bases=2)
    assert first.compatibles
    for other in first.compatibles:
        if "SDE" in other.__name__:  # needs torchsde
            continue
        there = other.from_config(first.config)
        back = DDCMScheduler.from_config(there.config)
        own = inspect.signature(DDCMScheduler).parameters
        assert {k: back.config[k] for k in own} == {k: first.config[k] for k in own}


def test_a_spacing_is_kept_when_schedulers_are_exchanged():
    for spacing in ("trailing", "linspace", "leading"):
        euler = EulerDiscreteScheduler.from_config(ddim(timestep_spacing=spacing).config)
        ours = DDCMScheduler.from_config(euler.config)
        assert ours.config.timestep_spacing == spacing
        assert LMSDiscreteScheduler.from_config(ours.config).config.timestep_spacing == spacing
    with pytest.raises(UserError, match="timestep_spacing 'even' is not one of leading, trail"):
        DDCMScheduler.from_config({**CONFIG, "timestep_spacing": "even"})


@pytest.mark.parametrize("spacing", ["trailing", "linspace", "leading"])
def test_timesteps_are_those_of_ddim(spacing):
    for steps in (1, 4, 5, 8, 10, 20, 25, 50, 100, 125, 200, 500):
        theirs = ddim(timestep_spacing=spacing, steps_offset=1)
        ours = DDCMScheduler.from_config(theirs.config)
        for scheduler in (theirs, ours):
            scheduler.set_timesteps(steps)
        assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    placed = make(timestep_spacing=spacing, placement="trailing")  # ours goes before
    placed.set_timesteps(10)
    assert placed.timesteps[0] == 999


def test_betas_are_those_of_ddim():
    for changes in ({}, {"beta_schedule": "scaled_linear"}, {"rescale_betas_zero_snr": True}):
        ours, theirs = make(**changes), ddim(**changes)
        for name in ("betas", "alphas", "alphas_cumprod"):
            found, wanted = getattr(ours, name), getattr(theirs, name)
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_trained_betas(tmp_path):
    first = make(trained_betas=np.array([0.1, 0.3]))
    first.save_pretrained(tmp_path)
    second = DDCMScheduler.from_pretrained(tmp_path)
    assert first.betas.tolist() == second.betas.tolist() == pytest.approx([0.1, 0.3])


# --- steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_without_noise_a_run_is_ddims(prediction):
    theirs = run(ddim(prediction_type=prediction), 10)
    ours = run(make(prediction_type=prediction, eta=0.0), 10)
    assert float(ours.abs().mean()) > 0.01
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_with_noise_a_step_is_ddims_with_the_codebooks_noise():
    ours, theirs = make(timestep_spacing="trailing"), ddim(timestep_spacing="trailing")
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(10)
    sample = SAMPLE
    for i, t in enumerate(ours.timesteps[:-1]):
        after = ours.step(RESIDUAL, t, sample, generator=seeded()).prev_sample
        noise = ours._codebook.noise(i, ours._choices[i])
        expected = theirs.step(RESIDUAL, t, sample, eta=1.0, variance_noise=noise).prev_sample
        assert torch.allclose(after, expected, atol=1e-5)
        previous = int(theirs.timesteps[i + 1])
        assert ours.schedule.sigma(i) ** 2 == pytest.approx(
            float(theirs._get_variance(int(t), previous)), abs=1e-6
        )
        sample = after


def test_tuples_and_outputs_agree():
    found = []
    for whole in (True, False):
        scheduler = make()
        scheduler.set_timesteps(10)
        t = scheduler.timesteps[0]
        found.append(scheduler.step(RESIDUAL, t, SAMPLE, generator=seeded(), return_dict=whole))
    for a, b in zip(found[0].to_tuple(), found[1], strict=True):
        assert torch.equal(a, b)


def test_public_names():
    scheduler = make()
    assert scheduler.init_noise_sigma == 1.0
    assert scheduler.order == 1
    assert len(scheduler) == 1000
    assert torch.equal(scheduler.scale_model_input(SAMPLE, 0.0), SAMPLE)
    assert "kwargs" not in inspect.signature(DDCMScheduler.__init__).parameters
    assert not DDCMScheduler._deprecated_kwargs
    assert isinstance(scheduler, diffusers.SchedulerMixin)


def test_add_noise_is_ddims():
    ours, theirs = make(), ddim()
    ours.set_timesteps(100)
    noise = torch.randn(SAMPLE.shape, generator=seeded())
    for t in (ours.timesteps[5][None], ours.timesteps[:4]):
        assert torch.allclose(ours.add_noise(SAMPLE, noise, t), theirs.add_noise(SAMPLE, noise, t))


def test_attributes_are_its_own_and_those_of_its_configuration_are_deprecated(caplog):
    scheduler = make()
    scheduler.own = 5
    scheduler.register_to_config(configured=5)
    with caplog.at_level(logging.WARNING):
        assert scheduler.own == 5
        assert scheduler.save_pretrained == scheduler.save_pretrained
    assert not caplog.records
    with pytest.warns(FutureWarning):
        assert scheduler.configured == 5
    with pytest.raises(AttributeError, match="has no attribute 'none'"):
        scheduler.none  # noqa: B018


# --- a start in the middle --------------------------------------------------------------------


def test_a_start_in_the_middle_is_ddims():
    """``test_full_loop_with_noise``: noise added at step 8 of 10, then the rest."""
    ours, theirs = make(eta=0.0), ddim()
    noise = torch.randn(SAMPLE.shape, generator=seeded())
    theirs.set_timesteps(10)
    start = theirs.add_noise(SAMPLE, noise, theirs.timesteps[8:9])
    wanted = start
    for t in theirs.timesteps[8:]:
        wanted = theirs.step(network(wanted, t), t, wanted).prev_sample
    assert torch.allclose(run(ours, 10, start, begin=8), wanted, atol=1e-5)
    assert (ours.begin_index, ours.step_index) == (8, 10)


def test_codes_of_a_run_from_the_middle_replay(tmp_path):
    scheduler = make()
    found = run(scheduler, 10, begin=6, generator=seeded())
    codes = scheduler.codes
    assert len(codes.choices) == 3
    scheduler.replay(codes)
    assert torch.equal(run(scheduler, 10, begin=6), found)
    with pytest.raises(ValueError, match="codes of 3 steps are replayed in a run of 9"):
        run(scheduler, 10)


def test_without_a_begin_index_the_first_timestep_says_where():
    scheduler = make()
    expected = run(scheduler, 10, begin=6, generator=seeded())
    scheduler.set_timesteps(10)
    assert scheduler.begin_index is None
    sample = SAMPLE
    for t in scheduler.timesteps[6:]:
        sample = scheduler.step(network(sample, t), t, sample, generator=seeded()).prev_sample
    assert torch.equal(sample, expected)


def test_begin_indices_that_are_none():
    scheduler = make()
    with pytest.raises(ValueError, match="call set_timesteps before set_begin_index"):
        scheduler.set_begin_index(0)
    scheduler.set_timesteps(10)
    for index in (-1, 10):
        with pytest.raises(ValueError, match="is none of 0 to 9"):
            scheduler.set_begin_index(index)
    scheduler.set_begin_index(3)
    with pytest.raises(ValueError, match="timestep 900 is not the one after 3 steps"):
        scheduler.step(RESIDUAL, scheduler.timesteps[0], SAMPLE)
    scheduler.step(RESIDUAL, scheduler.timesteps[3], SAMPLE)
    with pytest.raises(ValueError, match="this run has begun"):
        scheduler.set_begin_index(3)
    with pytest.raises(ValueError, match="is not the one after 4 steps"):
        scheduler.step(RESIDUAL, scheduler.timesteps[5], SAMPLE)


# --- arguments --------------------------------------------------------------------------------


def test_the_previous_timestep_is_the_true_next_one():
    scheduler = make(timestep_spacing="trailing")
    assert scheduler.previous_timestep(500) == 499
    scheduler.set_timesteps(10)
    assert scheduler.previous_timestep(torch.tensor(999)) == 899
    assert scheduler.previous_timestep(99) == -1
    with pytest.raises(ValueError, match="timestep 500 is none"):
        scheduler.previous_timestep(500)


def test_steps_and_timesteps_exclude_each_other():
    with pytest.raises(ValueError, match="not both"):
        make().set_timesteps(5, timesteps=[900, 500, 1])
    with pytest.raises(UserError, match="give the number of steps"):
        make().set_timesteps()


@pytest.mark.parametrize("wrong", [0.0, 0.5, 1, "0", [0.5], [None]])
def test_an_eta_in_the_generators_place_is_refused(wrong):
    scheduler = make()
    scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match=r"not a torch\.Generator; DDCM's eta is no argument"):
        scheduler.step(RESIDUAL, scheduler.timesteps[0], SAMPLE, wrong)
    scheduler.step(RESIDUAL, scheduler.timesteps[0], SAMPLE, seeded())
    with pytest.raises(ValueError, match=r"not a torch\.Generator"):
        scheduler.step(RESIDUAL, scheduler.timesteps[1], SAMPLE, wrong)
