"""Prompts to embeddings, the guided denoiser and CLAP, against the plain pipeline."""

import gc
import weakref

import pytest
import torch

from audioldm_utils.errors import UserError
from audioldm_utils.model import checkpoint as checkpoints
from audioldm_utils.model.conditioning import stack
from audioldm_utils.model.networks import Networks


@pytest.fixture(scope="module")
def networks(tiny_checkpoint):
    return Networks(checkpoints.load(tiny_checkpoint))


@pytest.fixture(scope="module")
def plain(tiny_checkpoint):
    from diffusers import AudioLDM2Pipeline

    pipeline = AudioLDM2Pipeline.from_pretrained(tiny_checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(*shape, seed=0, scale=0.1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


# Prompts.


def test_one_prompt_is_embedded_as_the_plain_pipeline_does(networks, plain):
    for prompt, negative in (("rain on a roof", None), ("a dog", "low quality")):
        found = networks.embed(prompt, negative)
        with torch.no_grad():
            t5, mask, generated = plain.encode_prompt(
                prompt, "cpu", 1, True, negative_prompt=negative
            )
        assert torch.equal(torch.cat([found.negative.t5, found.t5]), t5)
        assert torch.equal(torch.cat([found.negative.mask, found.mask]), mask)
        assert torch.equal(torch.cat([found.negative.generated, found.generated]), generated)


def test_several_prompts_together_are_embedded_as_the_plain_pipeline_does(networks, plain):
    prompts = ["rain on a roof", "a dog barks twice far away"]
    found = networks.embed(prompts, together=True)
    with torch.no_grad():
        t5, _, generated = plain.encode_prompt(prompts, "cpu", 1, True)
    assert torch.equal(torch.cat([found.negative.t5, found.t5]), t5)
    assert torch.equal(torch.cat([found.negative.generated, found.generated]), generated)


def test_by_default_neighbours_change_nothing(networks):
    prompts = ["rain on a roof", "a dog barks twice far away"]
    both, alone = networks.embed(prompts, ["noise", "music"]), networks.embed(prompts[0], "noise")
    tokens = alone.t5.shape[1]
    assert torch.equal(both.generated[:1], alone.generated)
    assert torch.equal(both.t5[:1, :tokens], alone.t5)
    assert both.mask[0].tolist() == [1] * tokens + [0] * (both.t5.shape[1] - tokens)
    assert torch.equal(both.negative.generated[:1], alone.negative.generated)
    x = noise(2, 8, 16, 16, scale=1.0)
    together = networks.denoiser(both, 3.0)(x, 400)
    assert torch.allclose(together[:1], networks.denoiser(alone, 3.0)(x[:1], 400), atol=1e-4)


def test_conditionings_expand_and_stack(networks):
    both = networks.embed(["rain", "a dog barks"])
    four = both.expand(4)
    assert torch.equal(four.t5[0], four.t5[1])
    assert torch.equal(four.generated[2], both.generated[1])
    assert four.negative.batch == 4
    assert torch.equal(stack([both[:1], both[1:]]).t5, both.t5)
    with pytest.raises(ValueError, match="2 prompts cannot be spread over a batch of 3"):
        both.expand(3)


def test_prompts_of_another_kind_are_refused(networks):
    with pytest.raises(ValueError, match="prompts must be a text"):
        networks.embed([])
    with pytest.raises(ValueError, match="3 negative prompts for 2 prompts"):
        networks.embed(["a", "b"], ["c", "d", "e"])


def test_text_encoders_are_dropped_and_come_back(tiny_checkpoint):
    networks = Networks(checkpoints.load(tiny_checkpoint, ("unet",)))
    first = networks.embed("rain")
    encoder = weakref.ref(networks.checkpoint.part("text_encoder_2"))
    networks.drop_text()
    gc.collect()
    assert encoder() is None
    assert networks.checkpoint.loaded == ("unet",)
    networks.denoiser(first, 2.0)(noise(1, 8, 16, 16), 10)
    assert networks.checkpoint.loaded == ("unet",)
    assert torch.equal(networks.embed("rain").generated, first.generated)


def test_a_codec_checkpoint_says_that_it_has_no_text_side(tiny_codec):
    networks = Networks(tiny_codec)
    assert networks.reconstruct_vae(noise(1, 3200)).shape == (1, 3200)
    with pytest.raises(UserError, match="has no component 'text_encoder'"):
        networks.embed("rain")
    with pytest.raises(UserError, match="has no component 'text_encoder'"):
        networks.denoiser()


# The denoiser.


def test_the_denoiser_is_the_plain_pipeline_s_unet_call(networks, plain):
    x, t = noise(1, 8, 16, 16, scale=1.0), torch.tensor(401)
    conditioning = networks.embed("rain on a roof")
    with torch.no_grad():
        t5, mask, generated = plain.encode_prompt("rain on a roof", "cpu", 1, True)
        output = plain.unet(
            torch.cat([x, x]), t, generated, encoder_hidden_states_1=t5,
            encoder_attention_mask_1=mask,
        ).sample  # fmt: skip
    without, towards = output.chunk(2)
    denoiser = networks.denoiser(conditioning, guidance=3.5)
    assert torch.equal(denoiser(x, t), without + 3.5 * (towards - without))
    assert torch.equal(denoiser(x, 401), denoiser(x, t))
    assert [torch.equal(a, b) for a, b in zip(denoiser.pair(x, t), (without, towards), strict=True)]
    assert not torch.allclose(without, towards)
    assert denoiser.calls == 8


def test_without_guidance_the_network_is_called_once(networks):
    x = noise(2, 8, 16, 16, scale=1.0)
    conditioning = networks.embed("rain")
    denoiser = networks.denoiser(conditioning)
    towards = networks.denoiser(conditioning, 2.0).pair(x, 7)[1]
    assert torch.allclose(denoiser(x, 7), towards, atol=1e-5)
    assert denoiser.calls == 2


def test_the_unconditional_denoiser_is_the_empty_prompt(networks):
    x = noise(2, 8, 16, 16, scale=1.0)
    assert torch.equal(networks.denoiser()(x, 99), networks.denoiser(networks.embed(""))(x, 99))
    with pytest.raises(UserError, match=r"guidance 2.0 needs a prompt"):
        networks.denoiser(guidance=2.0)
    with pytest.raises(UserError, match="without a prompt there is no pair"):
        networks.denoiser().pair(x, 99)


def test_a_timestep_a_clip(networks):
    x = noise(2, 8, 16, 16, scale=1.0)
    denoiser = networks.denoiser(networks.embed("rain"), 2.0)
    both = denoiser(x, torch.tensor([10, 900]))
    assert torch.allclose(both[:1], denoiser(x[:1], 10), atol=1e-4)
    assert torch.allclose(both[1:], denoiser(x[1:], 900), atol=1e-4)


def test_the_denoiser_s_gradient(networks):
    x = noise(1, 8, 16, 16, scale=1.0).requires_grad_()
    conditioning = networks.embed("rain")
    assert not networks.denoiser(conditioning)(x, 50).requires_grad
    networks.denoiser(conditioning, 2.0, grad=True)(x, 50).square().sum().backward()
    assert x.grad.abs().sum() > 0


def test_half_precision_stays_near_and_returns_float32(tiny_checkpoint, networks):
    half = Networks(checkpoints.load(tiny_checkpoint, (), dtype=torch.bfloat16))
    wave = noise(1, 16000)
    mel = networks.to_mel(wave)
    latents = half.encode(mel)
    assert latents.dtype == half.decode(latents).dtype == torch.float32
    assert (latents - networks.encode(mel)).abs().mean() < 0.05 * networks.encode(mel).std()
    x = noise(1, 8, 16, 16, scale=1.0)
    exact = networks.denoiser(networks.embed("rain"), 2.0)(x, 300)
    assert (half.denoiser(half.embed("rain"), 2.0)(x, 300) - exact).abs().mean() < 0.05 * x.std()


# CLAP.


def test_clap_embeddings_are_unit_vectors_and_score_as_the_plain_pipeline(networks, plain):
    prompts = ["rain on a roof", "a dog"]
    wave = noise(3, 8000)
    texts, sounds = networks.clap_text(prompts), networks.clap_audio(wave)
    for embeddings, count in ((texts, 2), (sounds, 3)):
        assert embeddings.shape == (count, 16)
        assert torch.allclose(embeddings.norm(dim=1), torch.ones(count), atol=1e-5)
    with torch.no_grad():
        ranked = plain.score_waveforms(prompts[0], wave, 3, "cpu", torch.float32)
    order = (texts[0] @ sounds.T).argsort(descending=True)
    assert torch.equal(ranked, wave[order])


def test_clap_takes_another_rate_and_any_length(networks):
    long = noise(2, 40000)
    embeddings = networks.clap_audio(long)
    assert torch.equal(embeddings, networks.clap_audio(long))
    # The tiny extractor's limit is one second: 2.5 s are three windows.
    windows = [networks.clap_audio(long[:, s : s + 16000]) for s in (0, 16000, 24000)]
    expected = torch.nn.functional.normalize(sum(windows), dim=-1)
    assert torch.allclose(embeddings, expected, atol=0.02)
    assert networks.clap_audio(noise(1, 22050), 22050).shape == (1, 16)


def test_an_audio_prompt_takes_the_place_of_clap_s_text(networks):
    wave = noise(2, 8000)
    heard = networks.embed_audio(wave, "rain")
    text = networks.embed("rain")
    assert heard.batch == 2
    assert torch.equal(heard.t5[:1], text.t5)
    assert torch.equal(heard.negative.generated[:1], text.negative.generated)
    assert not torch.allclose(heard.generated[0], text.generated[0])
    assert not torch.allclose(heard.generated[0], heard.generated[1])


def test_an_audio_prompt_with_clap_s_text_embedding_is_the_text_prompt(networks, monkeypatch):
    monkeypatch.setattr(networks.text, "clap_audio", lambda *_: networks.clap_text("rain"))
    heard = networks.embed_audio(noise(1, 8000), "rain")
    assert torch.allclose(heard.generated, networks.embed("rain").generated, atol=1e-5)
