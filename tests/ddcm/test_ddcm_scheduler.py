"""DDCMScheduler inside a plain diffusers AudioLDM2Pipeline."""

import pytest
import torch

from audioldm_utils.ddcm import DDCM, DDCMScheduler
from audioldm_utils.errors import UserError
from audioldm_utils.model import checkpoint as checkpoints
from tests import tiny

STEPS = 6
CONFIG = tiny.SCHEDULER
LENGTH = 0.64  # s, 16 latent frames


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint):
    pipe = checkpoints.load(tiny_checkpoint).pipeline()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def use(pipe, **options):
    pipe.scheduler = DDCMScheduler.from_config(CONFIG, **options)
    return pipe.scheduler


def sample(pipe, seed=3, **options):
    seeds = seed if isinstance(seed, list) else [seed]
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    return pipe(
        "rain on a roof",
        num_inference_steps=STEPS,
        audio_length_in_s=LENGTH,
        generator=generators if len(seeds) > 1 else generators[0],
        num_waveforms_per_prompt=options.pop("count", 1),
        output_type="latent",
        **options,
    ).audios


def test_pipe_with_prompt_is_ddcm_and_its_codes_replay_exactly(pipe):
    scheduler = use(pipe, bases=2, atoms=2)
    first = sample(pipe)
    codes = scheduler.codes
    assert len(codes.choices) == STEPS - 1
    assert codes.choices[0].shape == (1, 2)
    assert codes.latents.shape == (1, 8, 16, 16)
    start = scheduler.start
    other = sample(pipe, seed=4)
    assert not torch.equal(first, other)
    scheduler.replay(codes)
    again = sample(pipe, seed=99, latents=start)
    assert torch.equal(first, again)
    scheduler.replay(None)
    assert not torch.equal(first, sample(pipe, seed=99, latents=start))


def test_the_same_latents_as_the_coder_of_the_library(pipe):
    """DDCM.decode with the pipeline's own network returns the pipeline's latents."""
    scheduler = use(pipe, bases=1)
    seen = []
    original = pipe.unet.forward

    def spy(x, t, *args, **options):
        out = original(x, t, *args, **options)
        seen.append((int(t), options))
        return out

    pipe.unet.forward = spy
    try:
        sample(pipe, guidance_scale=1.0)
    finally:
        pipe.unet.forward = original
    options = seen[0][1]

    def denoiser(x, t):
        return pipe.unet(x, t, **{**options, "return_dict": False})[0]

    coder = DDCM(scheduler.schedule, scheduler.make_codebook((8, 16, 16)))
    assert [t for t, _ in seen] == list(scheduler.schedule.timesteps)
    decoded = coder.decode(scheduler.codes, denoiser, start=scheduler.start)
    assert torch.equal(decoded, scheduler.codes.latents)


def test_each_generator_of_a_list_seeds_its_own_sample(pipe):
    scheduler = use(pipe)
    sample(pipe, seed=[1, 2], count=2, guidance_scale=1.0)
    both = scheduler.codes
    sample(pipe, seed=[2, 5], count=2, guidance_scale=1.0)
    for pair, other in zip(both.choices, scheduler.codes.choices, strict=True):
        assert torch.equal(pair[1], other[0])
        assert not torch.equal(pair[0], other[0])


def test_guidance_and_without_a_generator(pipe):
    scheduler = use(pipe, codebook="gaussian", size=16, choice_seed=2)
    pipe("rain", num_inference_steps=3, audio_length_in_s=LENGTH, guidance_scale=4.0)
    first = scheduler.codes.choices
    pipe("rain", num_inference_steps=3, audio_length_in_s=LENGTH, guidance_scale=1.0)
    assert all(torch.equal(a, b) for a, b in zip(first, scheduler.codes.choices, strict=True))


def test_saves_and_loads_as_diffusers_does(pipe, tmp_path):
    scheduler = use(pipe, placement="alpha-bar", stop=0.97, power=0.25, bases=4)
    scheduler.save_pretrained(tmp_path)
    back = DDCMScheduler.from_pretrained(tmp_path)
    public = {k: v for k, v in scheduler.config.items() if not k.startswith("_")}
    assert {k: v for k, v in back.config.items() if k in public} == public
    back.set_timesteps(10)
    assert back.config.beta_schedule == "scaled_linear"
    assert len(back.timesteps) == 10
    assert back.timesteps[0] == 999


def test_explicit_timesteps_and_add_noise(pipe):
    scheduler = use(pipe)
    scheduler.set_timesteps(timesteps=[900, 500, 3])
    assert scheduler.timesteps.tolist() == [900, 500, 3]
    assert scheduler.num_inference_steps == 3
    x, noise = torch.ones(2, 8, 4, 4), torch.zeros(2, 8, 4, 4)
    noisy = scheduler.add_noise(x, noise, torch.tensor([0, 999]))
    assert float(noisy[0, 0, 0, 0]) == pytest.approx(0.99925, abs=1e-4)
    assert float(noisy[1, 0, 0, 0]) == pytest.approx(0.0119, abs=1e-3)


def test_misuse():
    config = {**CONFIG, "clip_sample": True}
    with pytest.raises(UserError, match="clip_sample"):
        DDCMScheduler.from_config(config)
    scheduler = DDCMScheduler.from_config(CONFIG)
    x = torch.zeros(1, 8, 4, 16)
    with pytest.raises(ValueError, match="set_timesteps"):
        scheduler.step(x, 999, x)
    scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match="timestep 5 is not the one after 0 steps"):
        scheduler.step(x, 5, x)
    with pytest.raises(ValueError, match="no run has ended"):
        scheduler.codes  # noqa: B018
    with pytest.raises(ValueError, match="2 generators for a batch of 1"):
        scheduler.step(x, scheduler.timesteps[0], x, generator=[torch.Generator()] * 2)
