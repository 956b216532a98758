import gc
import itertools
import weakref

import numpy as np
import pytest
import torch

from audioldm_utils import checkpoint as checkpoints
from audioldm_utils.conditioning import stack
from audioldm_utils.errors import UserError
from audioldm_utils.mel import log_mel
from audioldm_utils.stages import Stages, crossfade, normalise, window_starts

SILENCE = np.log(1e-5)


@pytest.fixture(scope="module")
def stages(tiny_checkpoint):
    return Stages(checkpoints.load(tiny_checkpoint))


@pytest.fixture(scope="module")
def plain(tiny_checkpoint):
    from diffusers import AudioLDM2Pipeline

    pipeline = AudioLDM2Pipeline.from_pretrained(tiny_checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(*shape, seed=0, scale=0.1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


# Front end.


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(1, 4), (100, 4), (640, 4), (641, 8), (16000, 100), (16001, 104), (40960, 256)],
)
def test_mel_covers_every_sample_and_is_padded_with_silence(stages, samples, frames):
    mel = stages.to_mel(noise(2, samples))
    assert mel.shape == (2, frames, 64)
    filled = max(-(-samples // 160), 3)
    assert torch.all(mel[:, filled:] == torch.tensor(SILENCE, dtype=torch.float32))
    assert torch.all(mel[:, :filled].mean(dim=2) > SILENCE)


def test_mel_is_the_training_framing(stages):
    wave = noise(2, 160 * 96)
    assert torch.equal(stages.to_mel(wave), log_mel(wave, framing="training"))


@pytest.mark.parametrize("frames", [4096, 4097, 4099, 4100, 8200])
def test_mel_in_blocks_equals_mel_at_once(stages, frames):
    wave = noise(1, frames * 160)
    assert torch.allclose(stages.to_mel(wave)[:, :frames], log_mel(wave), atol=1e-5)


def test_normalise_and_its_undoing():
    wave = noise(3, 1000) * torch.tensor([[1.0], [20.0], [0.0]]) + 0.3
    normalised, level = normalise(wave)
    assert torch.allclose(normalised.mean(dim=1), torch.zeros(3), atol=1e-6)
    assert torch.allclose(normalised.abs().amax(dim=1), torch.tensor([0.5, 0.5, 0.0]), atol=1e-6)
    assert torch.allclose(level.undo(normalised), wave, atol=1e-6)


@pytest.mark.parametrize("shape", [(100,), (2, 0), (1, 2, 100)])
def test_a_waveform_of_another_shape_is_refused(stages, shape):
    with pytest.raises(ValueError, match=r"waveform must be \(batch, samples\), got"):
        stages.to_mel(torch.zeros(shape))


# VAE and vocoder.


def test_shapes_of_every_stage(stages):
    mel = stages.to_mel(noise(2, 10000))
    latents = stages.encode(mel)
    assert latents.shape == (2, 8, 16, 16)
    decoded = stages.decode(latents)
    assert decoded.shape == mel.shape == (2, 64, 64)
    assert stages.vocode(decoded).shape == (2, 160 * 64)
    assert not any(t.is_inference() or t.requires_grad for t in (mel, latents, decoded))


def test_encode_is_the_scaled_posterior_mode(stages):
    mel = stages.to_mel(noise(1, 16000))
    mean = stages.checkpoint.vae.encode(mel[:, None]).latent_dist.mean
    assert stages.scaling_factor == 0.37
    assert torch.allclose(stages.encode(mel), mean * 0.37)
    mel_again = stages.checkpoint.vae.decode(mean).sample[:, 0]
    assert torch.allclose(stages.decode(stages.encode(mel)), mel_again, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 700, 16000, 16161])
def test_reconstruction_has_the_input_s_length_and_level(stages, samples):
    wave = noise(1, samples) * 3 + 0.2
    output = stages.reconstruct_vae(wave)
    assert output.shape == wave.shape
    if samples > 1:
        # Twice as loud in, twice as loud out: the gain is undone.
        assert torch.allclose(stages.reconstruct_vae(2 * wave), 2 * output, atol=1e-3)


def test_a_clip_s_result_does_not_depend_on_its_batch(stages):
    wave = noise(3, 16000)
    together = stages.reconstruct_vae(wave)
    alone = torch.cat([stages.reconstruct_vae(clip[None]) for clip in wave])
    assert torch.allclose(together, alone, atol=1e-4)


def test_wrong_shapes_are_named(stages):
    with pytest.raises(ValueError, match=r"a multiple of 4, got \(1, 6, 64\)"):
        stages.encode(torch.zeros(1, 6, 64))
    with pytest.raises(ValueError, match=r"latents must be \(batch, 8, frames, 16\)"):
        stages.decode(torch.zeros(1, 8, 16))
    with pytest.raises(ValueError, match=r"mel must be \(batch, frames, 64\)"):
        stages.vocode(torch.zeros(1, 64, 80))
    with pytest.raises(ValueError, match="multiples of 4"):
        Stages(stages.checkpoint, window=102)
    with pytest.raises(ValueError, match="overlap must be"):
        Stages(stages.checkpoint, window=64, overlap=64)


def test_the_lead_is_half_of_what_the_vocoder_returns_too_much(stages, tiny_checkpoint):
    mel = stages.to_mel(noise(1, 16000))
    assert stages.checkpoint.vocoder(mel).shape[1] == 100 * 160 + 32
    assert stages.lead == 16
    assert Stages(stages.checkpoint, lead=3).lead == 3


def test_an_impulse_in_the_mel_comes_out_where_the_lead_says(stages):
    """Through a linear vocoder with symmetric kernels, the lead is exact."""
    from tests import tiny

    vocoder = tiny.vocoder(resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 1]])
    with torch.no_grad():
        for name, parameter in vocoder.named_parameters():
            if name.endswith("bias") or "resblocks" in name:
                parameter.zero_()
            else:
                parameter.fill_(0.05)
        vocoder.conv_post.weight.mul_(1e-3)
        mel = torch.zeros(1, 41, 64)
        mel[:, 20] = 1.0
        wave = vocoder(mel)[0].double()
    centre = float((wave * torch.arange(len(wave))).sum() / wave.sum())
    # The centre of frame 20 is sample 20 * 160 + 79.5 of the waveform.
    assert centre - (20 * 160 + 79.5) == pytest.approx(stages.lead, abs=0.01)


@pytest.mark.parametrize("lag", [0, 24, 60])
def test_the_lead_of_a_faithful_vocoder_is_measured(tiny_checkpoint, lag):
    """A stand-in that returns the waveform itself, late and with its polarity inverted."""
    stages = Stages(checkpoints.load(tiny_checkpoint, ()))
    wave = noise(1, 160 * 64) * (torch.arange(160 * 64) % 2000 < 300)

    class Late:
        dtype = torch.float32

        def __call__(self, mel):
            return torch.nn.functional.pad(-wave, (lag, 32))

    stages.checkpoint._parts["vocoder"] = Late()
    assert abs(stages.measure_lead(wave) - lag) <= 4


def test_gradients_reach_the_latents_and_nothing_else(stages):
    latents = stages.encode(stages.to_mel(noise(1, 6400))).requires_grad_()
    mel = stages.decode_grad(latents)
    assert torch.allclose(mel.detach(), stages.decode(latents))
    stages.vocode_grad(mel).square().mean().backward()
    assert latents.grad.abs().sum() > 0
    assert all(p.grad is None for p in stages.checkpoint.vae.parameters())


# Windows.


@pytest.mark.parametrize("length", [8, 64, 65, 100, 113, 300])
@pytest.mark.parametrize("overlap", [0, 16, 48])
def test_windows_cover_everything(length, overlap):
    starts = window_starts(length, 64, overlap)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] == max(0, length - 64)
    assert all(b - a <= 64 - overlap for a, b in itertools.pairwise(starts))


def test_crossfading_pieces_of_one_signal_returns_it():
    signal = noise(2, 100, 3)
    pieces = [(s, signal[:, s : s + 40]) for s in window_starts(100, 40, 12)]
    assert torch.allclose(crossfade(pieces, 100, 12, dim=1), signal, atol=1e-6)


def test_a_clip_no_longer_than_the_window_goes_through_at_once(stages):
    mel = stages.to_mel(noise(1, 160 * 256))
    windowed = Stages(stages.checkpoint, window=256, overlap=64)
    unlimited = Stages(stages.checkpoint, window=None)
    latents = unlimited.encode(mel)
    assert torch.equal(windowed.encode(mel), latents)
    assert torch.equal(windowed.decode(latents), unlimited.decode(latents))


def test_windows_of_a_long_clip_agree_with_one_pass_of_each_window(stages):
    """Away from the cross-fades, the result is that of the window alone."""
    mel = stages.to_mel(noise(1, 160 * 300))
    windowed = Stages(stages.checkpoint, window=128, overlap=32)
    latents = windowed.encode(mel)
    assert latents.shape == (1, 8, 75, 16)
    alone = Stages(stages.checkpoint, window=None)
    assert torch.allclose(latents[:, :, :24], alone.encode(mel[:, :128])[:, :, :24], atol=1e-5)
    assert torch.allclose(latents[:, :, -18:], alone.encode(mel[:, -128:])[:, :, -18:], atol=1e-5)
    decoded = windowed.decode(latents)
    assert decoded.shape == mel.shape
    first = alone.decode(latents[:, :, :32])
    assert torch.allclose(decoded[:, :96], first[:, :96], atol=1e-5)


def test_windowed_vocoding_equals_one_pass(stages):
    mel = noise(2, 333, 64, scale=2.0) - 5
    whole = Stages(stages.checkpoint, window=None).vocode(mel)
    windowed = Stages(stages.checkpoint, window=64, overlap=16)
    assert windowed.vocoder_context < 64
    assert torch.allclose(windowed.vocode(mel), whole, atol=1e-5)
    assert whole.std() > 1e-3


def test_networks_see_no_more_than_the_window(stages, monkeypatch):
    seen = []
    vae = stages.checkpoint.vae
    encode, decode = vae.encode, vae.decode
    monkeypatch.setattr(vae, "encode", lambda x: seen.append(x.shape[2]) or encode(x))
    monkeypatch.setattr(vae, "decode", lambda z: seen.append(4 * z.shape[2]) or decode(z))
    windowed = Stages(stages.checkpoint, window=64, overlap=16)
    windowed.reconstruct_vae(noise(1, 160 * 400))
    assert max(seen) == 64


# Prompts.


def test_one_prompt_is_embedded_as_the_plain_pipeline_does(stages, plain):
    for prompt, negative in (("rain on a roof", None), ("a dog", "low quality")):
        found = stages.embed(prompt, negative)
        with torch.no_grad():
            t5, mask, generated = plain.encode_prompt(
                prompt, "cpu", 1, True, negative_prompt=negative
            )
        assert torch.equal(torch.cat([found.negative.t5, found.t5]), t5)
        assert torch.equal(torch.cat([found.negative.mask, found.mask]), mask)
        assert torch.equal(torch.cat([found.negative.generated, found.generated]), generated)


def test_several_prompts_together_are_embedded_as_the_plain_pipeline_does(stages, plain):
    prompts = ["rain on a roof", "a dog barks twice far away"]
    found = stages.embed(prompts, together=True)
    with torch.no_grad():
        t5, _, generated = plain.encode_prompt(prompts, "cpu", 1, True)
    assert torch.equal(torch.cat([found.negative.t5, found.t5]), t5)
    assert torch.equal(torch.cat([found.negative.generated, found.generated]), generated)


def test_by_default_neighbours_change_nothing(stages):
    prompts = ["rain on a roof", "a dog barks twice far away"]
    both, alone = stages.embed(prompts, ["noise", "music"]), stages.embed(prompts[0], "noise")
    tokens = alone.t5.shape[1]
    assert torch.equal(both.generated[:1], alone.generated)
    assert torch.equal(both.t5[:1, :tokens], alone.t5)
    assert both.mask[0].tolist() == [1] * tokens + [0] * (both.t5.shape[1] - tokens)
    assert torch.equal(both.negative.generated[:1], alone.negative.generated)
    x = noise(2, 8, 16, 16, scale=1.0)
    together = stages.denoiser(both, 3.0)(x, 400)
    assert torch.allclose(together[:1], stages.denoiser(alone, 3.0)(x[:1], 400), atol=1e-4)


def test_conditionings_expand_and_stack(stages):
    both = stages.embed(["rain", "a dog barks"])
    four = both.expand(4)
    assert torch.equal(four.t5[0], four.t5[1])
    assert torch.equal(four.generated[2], both.generated[1])
    assert four.negative.batch == 4
    assert torch.equal(stack([both[:1], both[1:]]).t5, both.t5)
    with pytest.raises(ValueError, match="2 prompts cannot be spread over a batch of 3"):
        both.expand(3)


def test_prompts_of_another_kind_are_refused(stages):
    with pytest.raises(ValueError, match="prompts must be a text"):
        stages.embed([])
    with pytest.raises(ValueError, match="3 negative prompts for 2 prompts"):
        stages.embed(["a", "b"], ["c", "d", "e"])


def test_text_encoders_are_dropped_and_come_back(tiny_checkpoint):
    stages = Stages(checkpoints.load(tiny_checkpoint, ("unet",)))
    first = stages.embed("rain")
    encoder = weakref.ref(stages.checkpoint.part("text_encoder_2"))
    stages.drop_text()
    gc.collect()
    assert encoder() is None
    assert stages.checkpoint.loaded == ("unet",)
    stages.denoiser(first, 2.0)(noise(1, 8, 16, 16), 10)
    assert stages.checkpoint.loaded == ("unet",)
    assert torch.equal(stages.embed("rain").generated, first.generated)


def test_a_codec_checkpoint_says_that_it_has_no_text_side(tiny_codec):
    stages = Stages(tiny_codec)
    assert stages.reconstruct_vae(noise(1, 3200)).shape == (1, 3200)
    with pytest.raises(UserError, match="has no component 'text_encoder'"):
        stages.embed("rain")
    with pytest.raises(UserError, match="has no component 'text_encoder'"):
        stages.denoiser()


# The denoiser.


def test_the_denoiser_is_the_plain_pipeline_s_unet_call(stages, plain):
    x, t = noise(1, 8, 16, 16, scale=1.0), torch.tensor(401)
    conditioning = stages.embed("rain on a roof")
    with torch.no_grad():
        t5, mask, generated = plain.encode_prompt("rain on a roof", "cpu", 1, True)
        output = plain.unet(
            torch.cat([x, x]), t, generated, encoder_hidden_states_1=t5,
            encoder_attention_mask_1=mask,
        ).sample  # fmt: skip
    without, towards = output.chunk(2)
    denoiser = stages.denoiser(conditioning, guidance=3.5)
    assert torch.equal(denoiser(x, t), without + 3.5 * (towards - without))
    assert torch.equal(denoiser(x, 401), denoiser(x, t))
    assert [torch.equal(a, b) for a, b in zip(denoiser.pair(x, t), (without, towards), strict=True)]
    assert not torch.allclose(without, towards)
    assert denoiser.calls == 8


def test_without_guidance_the_network_is_called_once(stages):
    x = noise(2, 8, 16, 16, scale=1.0)
    conditioning = stages.embed("rain")
    denoiser = stages.denoiser(conditioning)
    towards = stages.denoiser(conditioning, 2.0).pair(x, 7)[1]
    assert torch.allclose(denoiser(x, 7), towards, atol=1e-5)
    assert denoiser.calls == 2


def test_the_unconditional_denoiser_is_the_empty_prompt(stages):
    x = noise(2, 8, 16, 16, scale=1.0)
    assert torch.equal(stages.denoiser()(x, 99), stages.denoiser(stages.embed(""))(x, 99))
    with pytest.raises(UserError, match=r"guidance 2.0 needs a prompt"):
        stages.denoiser(guidance=2.0)
    with pytest.raises(UserError, match="without a prompt there is no pair"):
        stages.denoiser().pair(x, 99)


def test_a_timestep_a_clip(stages):
    x = noise(2, 8, 16, 16, scale=1.0)
    denoiser = stages.denoiser(stages.embed("rain"), 2.0)
    both = denoiser(x, torch.tensor([10, 900]))
    assert torch.allclose(both[:1], denoiser(x[:1], 10), atol=1e-4)
    assert torch.allclose(both[1:], denoiser(x[1:], 900), atol=1e-4)


def test_the_denoiser_s_gradient(stages):
    x = noise(1, 8, 16, 16, scale=1.0).requires_grad_()
    conditioning = stages.embed("rain")
    assert not stages.denoiser(conditioning)(x, 50).requires_grad
    stages.denoiser(conditioning, 2.0, grad=True)(x, 50).square().sum().backward()
    assert x.grad.abs().sum() > 0


def test_half_precision_stays_near_and_returns_float32(tiny_checkpoint, stages):
    half = Stages(checkpoints.load(tiny_checkpoint, (), dtype=torch.bfloat16))
    wave = noise(1, 16000)
    mel = stages.to_mel(wave)
    latents = half.encode(mel)
    assert latents.dtype == half.decode(latents).dtype == torch.float32
    assert (latents - stages.encode(mel)).abs().mean() < 0.05 * stages.encode(mel).std()
    x = noise(1, 8, 16, 16, scale=1.0)
    exact = stages.denoiser(stages.embed("rain"), 2.0)(x, 300)
    assert (half.denoiser(half.embed("rain"), 2.0)(x, 300) - exact).abs().mean() < 0.05 * x.std()


# CLAP.


def test_clap_embeddings_are_unit_vectors_and_score_as_the_plain_pipeline(stages, plain):
    prompts = ["rain on a roof", "a dog"]
    wave = noise(3, 8000)
    texts, sounds = stages.clap_text(prompts), stages.clap_audio(wave)
    for embeddings, count in ((texts, 2), (sounds, 3)):
        assert embeddings.shape == (count, 16)
        assert torch.allclose(embeddings.norm(dim=1), torch.ones(count), atol=1e-5)
    with torch.no_grad():
        ranked = plain.score_waveforms(prompts[0], wave, 3, "cpu", torch.float32)
    order = (texts[0] @ sounds.T).argsort(descending=True)
    assert torch.equal(ranked, wave[order])


def test_clap_takes_another_rate_and_any_length(stages):
    long = noise(2, 40000)
    embeddings = stages.clap_audio(long)
    assert torch.equal(embeddings, stages.clap_audio(long))
    # The tiny extractor's limit is one second: 2.5 s are three windows.
    windows = [stages.clap_audio(long[:, s : s + 16000]) for s in (0, 16000, 24000)]
    expected = torch.nn.functional.normalize(sum(windows), dim=-1)
    assert torch.allclose(embeddings, expected, atol=0.02)
    assert stages.clap_audio(noise(1, 22050), 22050).shape == (1, 16)


def test_an_audio_prompt_takes_the_place_of_clap_s_text(stages):
    wave = noise(2, 8000)
    heard = stages.embed_audio(wave, "rain")
    text = stages.embed("rain")
    assert heard.batch == 2
    assert torch.equal(heard.t5[:1], text.t5)
    assert torch.equal(heard.negative.generated[:1], text.negative.generated)
    assert not torch.allclose(heard.generated[0], text.generated[0])
    assert not torch.allclose(heard.generated[0], heard.generated[1])


def test_an_audio_prompt_with_clap_s_text_embedding_is_the_text_prompt(stages, monkeypatch):
    monkeypatch.setattr(stages.text, "clap_audio", lambda *_: stages.clap_text("rain"))
    heard = stages.embed_audio(noise(1, 8000), "rain")
    assert torch.allclose(heard.generated, stages.embed("rain").generated, atol=1e-5)
