"""Front end, VAE and vocoder, and how long clips go through them in windows."""

import itertools

import numpy as np
import pytest
import torch

from audioldm_utils.model import checkpoint as checkpoints
from audioldm_utils.model.mel import log_mel
from audioldm_utils.model.networks import Networks, crossfade, normalise, window_starts

SILENCE = np.log(1e-5)


@pytest.fixture(scope="module")
def networks(tiny_checkpoint):
    return Networks(checkpoints.load(tiny_checkpoint))


def noise(*shape, seed=0, scale=0.1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


# Front end.


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(1, 4), (100, 4), (640, 4), (641, 8), (16000, 100), (16001, 104), (40960, 256)],
)
def test_mel_covers_every_sample_and_is_padded_with_silence(networks, samples, frames):
    mel = networks.to_mel(noise(2, samples))
    assert mel.shape == (2, frames, 64)
    filled = max(-(-samples // 160), 3)
    assert torch.all(mel[:, filled:] == torch.tensor(SILENCE, dtype=torch.float32))
    assert torch.all(mel[:, :filled].mean(dim=2) > SILENCE)


def test_mel_is_the_training_framing(networks):
    wave = noise(2, 160 * 96)
    assert torch.equal(networks.to_mel(wave), log_mel(wave, framing="training"))


@pytest.mark.parametrize("frames", [4096, 4097, 4099, 4100, 8200])
def test_mel_in_blocks_equals_mel_at_once(networks, frames):
    wave = noise(1, frames * 160)
    assert torch.allclose(networks.to_mel(wave)[:, :frames], log_mel(wave), atol=1e-5)


def test_normalise_and_its_undoing():
    wave = noise(3, 1000) * torch.tensor([[1.0], [20.0], [0.0]]) + 0.3
    normalised, level = normalise(wave)
    assert torch.allclose(normalised.mean(dim=1), torch.zeros(3), atol=1e-6)
    assert torch.allclose(normalised.abs().amax(dim=1), torch.tensor([0.5, 0.5, 0.0]), atol=1e-6)
    assert torch.allclose(level.undo(normalised), wave, atol=1e-6)


@pytest.mark.parametrize("shape", [(100,), (2, 0), (1, 2, 100)])
def test_a_waveform_of_another_shape_is_refused(networks, shape):
    with pytest.raises(ValueError, match=r"waveform must be \(batch, samples\), got"):
        networks.to_mel(torch.zeros(shape))


# VAE and vocoder.


def test_shapes_of_every_stage(networks):
    mel = networks.to_mel(noise(2, 10000))
    latents = networks.encode(mel)
    assert latents.shape == (2, 8, 16, 16)
    decoded = networks.decode(latents)
    assert decoded.shape == mel.shape == (2, 64, 64)
    assert networks.vocode(decoded).shape == (2, 160 * 64)
    assert not any(t.is_inference() or t.requires_grad for t in (mel, latents, decoded))


def test_encode_is_the_scaled_posterior_mode(networks):
    mel = networks.to_mel(noise(1, 16000))
    vae = networks.checkpoint.pipeline(("vae",)).vae
    mean = vae.encode(mel[:, None]).latent_dist.mean
    assert networks.checkpoint.scaling_factor == 0.37
    assert torch.allclose(networks.encode(mel), mean * 0.37)
    mel_again = vae.decode(mean).sample[:, 0]
    assert torch.allclose(networks.decode(networks.encode(mel)), mel_again, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 700, 16000, 16161])
def test_reconstruction_has_the_input_s_length_and_level(networks, samples):
    wave = noise(1, samples) * 3 + 0.2
    output = networks.reconstruct_vae(wave)
    assert output.shape == wave.shape
    if samples > 1:
        # Twice as loud in, twice as loud out: the gain is undone.
        assert torch.allclose(networks.reconstruct_vae(2 * wave), 2 * output, atol=1e-3)


def test_a_clip_s_result_does_not_depend_on_its_batch(networks):
    wave = noise(3, 16000)
    together = networks.reconstruct_vae(wave)
    alone = torch.cat([networks.reconstruct_vae(clip[None]) for clip in wave])
    assert torch.allclose(together, alone, atol=1e-4)


def test_wrong_shapes_are_named(networks):
    with pytest.raises(ValueError, match=r"a multiple of 4, got \(1, 6, 64\)"):
        networks.encode(torch.zeros(1, 6, 64))
    with pytest.raises(ValueError, match=r"latents must be \(batch, 8, frames, 16\)"):
        networks.decode(torch.zeros(1, 8, 16))
    with pytest.raises(ValueError, match=r"mel must be \(batch, frames, 64\)"):
        networks.vocode(torch.zeros(1, 64, 80))
    with pytest.raises(ValueError, match="multiples of 4"):
        Networks(networks.checkpoint, window=102)
    with pytest.raises(ValueError, match="overlap must be"):
        Networks(networks.checkpoint, window=64, overlap=64)


def test_the_lead_is_half_of_what_the_vocoder_returns_too_much(networks, tiny_checkpoint):
    mel = networks.to_mel(noise(1, 16000))
    assert networks.checkpoint.vocoder(mel).shape[1] == 100 * 160 + 32
    assert networks.lead == 16


def test_an_impulse_in_the_mel_comes_out_where_the_lead_says(networks):
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
    assert centre - (20 * 160 + 79.5) == pytest.approx(networks.lead, abs=0.01)


def test_gradients_reach_the_latents_and_nothing_else(networks):
    latents = networks.encode(networks.to_mel(noise(1, 6400))).requires_grad_()
    mel = networks.decode_grad(latents)
    assert torch.allclose(mel.detach(), networks.decode(latents))
    networks.vocode_grad(mel).square().mean().backward()
    assert latents.grad.abs().sum() > 0
    assert all(p.grad is None for p in networks.checkpoint.vae.parameters())


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


def test_a_clip_no_longer_than_the_window_goes_through_at_once(networks):
    mel = networks.to_mel(noise(1, 160 * 256))
    windowed = Networks(networks.checkpoint, window=256, overlap=64)
    unlimited = Networks(networks.checkpoint, window=None)
    latents = unlimited.encode(mel)
    assert torch.equal(windowed.encode(mel), latents)
    assert torch.equal(windowed.decode(latents), unlimited.decode(latents))


def test_windows_of_a_long_clip_agree_with_one_pass_of_each_window(networks):
    """Away from the cross-fades, the result is that of the window alone."""
    mel = networks.to_mel(noise(1, 160 * 300))
    windowed = Networks(networks.checkpoint, window=128, overlap=32)
    latents = windowed.encode(mel)
    assert latents.shape == (1, 8, 75, 16)
    alone = Networks(networks.checkpoint, window=None)
    assert torch.allclose(latents[:, :, :24], alone.encode(mel[:, :128])[:, :, :24], atol=1e-5)
    assert torch.allclose(latents[:, :, -18:], alone.encode(mel[:, -128:])[:, :, -18:], atol=1e-5)
    decoded = windowed.decode(latents)
    assert decoded.shape == mel.shape
    first = alone.decode(latents[:, :, :32])
    assert torch.allclose(decoded[:, :96], first[:, :96], atol=1e-5)


def test_windowed_vocoding_equals_one_pass(networks):
    mel = noise(2, 333, 64, scale=2.0) - 5
    whole = Networks(networks.checkpoint, window=None).vocode(mel)
    windowed = Networks(networks.checkpoint, window=64, overlap=16)
    assert windowed.vocoder_context < 64
    assert torch.allclose(windowed.vocode(mel), whole, atol=1e-5)
    assert whole.std() > 1e-3


def test_networks_see_no_more_than_the_window(networks, monkeypatch):
    seen = []
    vae = networks.checkpoint.vae
    encode, decode = vae.encode, vae.decode
    monkeypatch.setattr(vae, "encode", lambda x: seen.append(x.shape[2]) or encode(x))
    monkeypatch.setattr(vae, "decode", lambda z: seen.append(4 * z.shape[2]) or decode(z))
    windowed = Networks(networks.checkpoint, window=64, overlap=16)
    windowed.reconstruct_vae(noise(1, 160 * 400))
    assert max(seen) == 64
