"""Repairs on signals whose answer is known; no checkpoint needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audioldm_utils.methods.enhance import bands, bandwidth, coding, noise
from audioldm_utils.methods.enhance.latent import mel_distance, refine_latents
from audioldm_utils.methods.enhance.phase import limit_echo, only_cuts_below, refine_phase
from audioldm_utils.methods.enhance.stft import (
    Stft,
    bands_to_bins,
    log_mel_of,
)
from audioldm_utils.model.mel import log_mel
from audioldm_utils.studies import artefacts
from tests.sounds import RATE, noise_clip

# --- the frame grid ---------------------------------------------------------------------


@pytest.mark.parametrize("samples", [700, 1600, 12345])
@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 160), (512, 128)])
def test_synthesis_inverts_analysis(samples, n_fft, hop):
    x = noise_clip(1.0)[:samples]
    stft = Stft(n_fft, hop)
    assert np.abs(stft.synthesise(stft.analyse(x), samples) - x).max() < 1e-6


def test_grid_is_the_front_ends():
    x = noise_clip()
    stft = Stft()
    ours = log_mel_of(stft.core(stft.analyse(x)))
    theirs = log_mel(torch.from_numpy(x)[None])[0].numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs)[4:-4].max() < 1e-3


def test_bin_weights_sum_to_one():
    assert np.allclose(bands_to_bins().sum(0), 1, atol=1e-6)


# --- coding -----------------------------------------------------------------------------


def test_arithmetic_coder_round_trip_and_rate():
    rng = np.random.default_rng(1)
    probability = 400
    bits = (rng.random(5000) < probability / coding.PROBABILITY_TOTAL).astype(int)
    writer = coding.BitCoder()
    for bit in bits:
        writer.bit(int(bit), probability)
    writer.number(37, 6)
    data, length = writer.finish()
    p = probability / coding.PROBABILITY_TOTAL
    entropy = -5000 * (p * np.log2(p) + (1 - p) * np.log2(1 - p))
    assert length == pytest.approx(entropy, rel=0.06)
    assert len(data) == -(-length // 8)
    # Whatever follows in the stream must not matter.
    for tail in (b"", b"\xff\xff", b"\x00"):
        reader = coding.BitCoder(data + tail if length % 8 == 0 else data)
        assert [reader.bit(one=probability) for _ in bits] == bits.tolist()
        assert reader.number(width=6) == 37


@pytest.mark.parametrize("frames", [5, 32, 75])
@pytest.mark.parametrize("predict", [False, True])
def test_field_decodes_as_the_encoder_said(frames, predict):
    rng = np.random.default_rng(frames)
    field = np.cumsum(rng.standard_normal((frames, 6)), 0) * 0.3 + 2
    coder = coding.FieldCoder(coding.smooth_scale(32, 6, 1.0, 3, 2), predict_mean=predict)
    writer = coding.BitCoder()
    said = coder.code(writer, field, 14)
    data, bits = writer.finish()
    assert bits <= 8 * len(data) < bits + 8
    assert np.array_equal(coder.code(coding.BitCoder(data), np.zeros((frames, 6))), said)
    assert np.abs(said - field).mean() < 0.4


def test_field_keeps_within_its_budget_and_spends_it():
    field = np.random.default_rng(3).standard_normal((160, 8))
    coder = coding.FieldCoder(coding.smooth_scale(32, 8, 1.0, 3, 2))
    errors = []
    for budget in (100, 400, 1600):
        data, bits = coder.encode(field, budget)
        assert 0.6 * budget < bits <= budget
        assert bits <= 8 * len(data) < bits + 8
        errors.append(np.abs(coder.decode(data, 160) - field).mean())
    assert errors[0] > errors[1] > errors[2]


def test_field_without_a_budget_is_one_bit():
    coder = coding.FieldCoder(coding.smooth_scale(32, 4, 1.0, 3, 2))
    data, bits = coder.encode(np.ones((64, 4)), 0)
    assert bits == 1
    assert not coder.decode(data, 64).any()


def test_field_of_another_shape_is_refused():
    coder = coding.FieldCoder(coding.smooth_scale(32, 4, 1.0, 3, 2))
    with pytest.raises(ValueError, match=r"\(frames, 4\), got shape \(10, 5\)"):
        coder.encode(np.ones((10, 5)), 100)


# --- above 8 kHz ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide() -> tuple[np.ndarray, np.ndarray, int]:
    rate = 44100
    x = noise_clip(1.2, rate, seed=4)
    x *= (0.05 + np.abs(np.sin(np.arange(len(x)) / 5000)) ** 4).astype("f4")
    import soxr

    return x, soxr.resample(x, rate, RATE, quality="HQ"), rate


def test_extension_fills_the_band_within_its_rate(wide):
    x, low, rate = wide
    extension = bandwidth.encode_extension(x, low, rate, kbps=1.0)
    assert 0 < extension.bits <= 1000 * len(x) / rate
    assert extension.bits <= 8 * len(extension.data) < extension.bits + 8
    full = bandwidth.decode_extension(extension, low)
    assert len(full) == len(x)
    plain = bandwidth._distance(x, bandwidth.upsample(low, rate, len(x)), rate)
    shaped = bandwidth._distance(
        x, bandwidth.decode_extension(extension, low, carrier="noise"), rate
    )
    distance = bandwidth._distance(x, full, rate)
    assert distance < 0.5 * plain
    assert distance < shaped
    assert np.array_equal(full, bandwidth.decode_extension(extension, low))


def test_extension_has_no_seam_at_the_crossover(wide):
    x, low, rate = wide
    full = bandwidth.decode_extension(bandwidth.encode_extension(x, low, rate), low)
    stft = Stft(2048, 512)
    power = [np.square(np.abs(stft.analyse(y))).mean(0) for y in (x, full)]
    for low_edge in range(6000, 9500, 500):
        bins = slice(low_edge * 2048 // rate, (low_edge + 500) * 2048 // rate)
        assert abs(10 * np.log10(power[1][bins].mean() / power[0][bins].mean())) < 2.5


def test_fluctuations_beside_a_strong_partial_are_calmed_to_numbers():
    # A running mean in single precision falls below zero beside it.
    rate = 48000
    high = np.sin(2 * np.pi * 12000.5 * np.arange(rate) / rate).astype(np.float32)
    high[: rate // 2] = 0
    for _, shrink, longer, rounds in bandwidth.CARRIERS.values():
        calm = bandwidth._calm(high, bandwidth._Grid(rate), shrink, longer, rounds)
        assert np.isfinite(calm).all()


def test_extension_of_a_narrow_clip_is_nothing():
    x = noise_clip()
    extension = bandwidth.encode_extension(x, x, RATE)
    assert extension.bits == 0
    assert np.array_equal(bandwidth.decode_extension(extension, x), x)


def test_extension_without_a_budget_is_one_bit(wide):
    x, low, rate = wide
    extension = bandwidth.encode_extension(x, low, rate, kbps=0.005)
    assert extension.bits == 1
    full = bandwidth.decode_extension(extension, low)
    assert np.array_equal(full, bandwidth.upsample(low, rate, len(x)))


def test_oracle_takes_the_original_above(wide):
    x, low, rate = wide
    out = bandwidth.oracle_crossover(x, 0 * low, rate, 8000.0)
    stft = Stft(2048, 512)
    spectra = [np.abs(stft.analyse(y)) for y in (x, out)]
    above = slice(8500 * 2048 // rate, None)
    below = slice(0, 7500 * 2048 // rate)
    assert np.allclose(spectra[0][4:-4, above], spectra[1][4:-4, above], atol=0.05)
    assert spectra[1][:, below].max() < 0.01 * spectra[0].max()


# --- phase and latents ------------------------------------------------------------------


def test_phase_refinement_reaches_the_mel_and_never_worsens():
    x = noise_clip(seed=1)
    target = bands.mel_of(x)
    start = noise_clip(seed=2) * 0.3
    refined, curve = refine_phase(start, target, 10)
    assert curve[-1] < 0.3 * curve[0]
    assert np.abs(bands.mel_of(refined) - target).mean() == pytest.approx(curve.min(), abs=1e-3)
    part, _ = refine_phase(start, target, 6, bands=bands.high_bands())
    error = np.abs(bands.mel_of(part) - target).mean(0)
    before = np.abs(bands.mel_of(start) - target).mean(0)
    assert (error[55:] < 0.5 * before[55:]).all()
    assert np.allclose(error[:40], before[:40], atol=0.1)
    same, flat = refine_phase(start, target, 0)
    assert np.array_equal(same, start)
    assert len(flat) == 1
    with pytest.raises(ValueError, match="at least 80"):
        refine_phase(x, target[:10], 2)


def test_mel_distance_by_hand():
    a = torch.zeros(2, 8, 64)
    assert mel_distance(a, a + 0.5).tolist() == pytest.approx([0.5, 0.5])
    assert mel_distance(a, a).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="differ"):
        mel_distance(a, a[:, :4])


def test_latent_refinement_is_batched_and_never_worsens():
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(64 * 2, 32, generator=generator) / 6

    def decode(z):
        return (z.flatten(1) @ mix.T).view(len(z), 2, 64)

    mel = torch.randn(3, 2, 64, generator=generator)
    start = torch.zeros(3, 8, 1, 4)
    refined, curve = refine_latents(start, mel, decode, steps=40, learning_rate=0.1)
    assert curve.shape == (41, 3)
    reached = mel_distance(mel, decode(refined)).numpy()
    assert (reached < 0.9 * curve[0]).all()
    assert np.allclose(reached, curve.min(0))
    alone, _ = refine_latents(start[1:2], mel[1:2], decode, steps=40, learning_rate=0.1)
    assert torch.allclose(alone, refined[1:2], atol=1e-4)
    worse, _ = refine_latents(refined, mel, decode, steps=2, learning_rate=5.0)
    assert (mel_distance(mel, decode(worse)).numpy() <= reached + 1e-6).all()


# --- artefacts --------------------------------------------------------------------------


def bursts() -> np.ndarray:
    x = noise_clip(1.5, seed=5) * 0.001
    for onset in (8000, 16000):
        x[onset : onset + 1600] += noise_clip(0.1, seed=6)
    return x


def test_measures_are_zero_for_the_same_sound():
    x = bursts()
    values = artefacts.measure(x, x, RATE)
    assert values == {"noise_floor": 0.0, "hum": 0.0, "pre_echo": 0.0, "warble": 0.0}


def test_noise_floor_by_hand():
    x = bursts()
    assert artefacts.noise_floor(x, 10 * x, RATE) == pytest.approx(20, abs=1)


def test_hum_is_found_and_removed():
    x = noise_clip(1.5, seed=7)
    tone = 0.05 * np.sin(2 * np.pi * 1000 * np.arange(len(x)) / RATE).astype("f4")
    found = noise.hum_lines(x, x + tone, RATE)
    assert len(found) == 1
    assert found[0] == pytest.approx(1000, abs=4)
    assert artefacts.hum(x, noise.suppress_lines(x + tone, found, RATE), RATE) == 0
    assert artefacts.hum(x + tone, x + tone, RATE) == 0


def test_pre_echo_sees_what_comes_before_an_onset():
    x = bursts()
    assert noise.onsets(x, RATE).tolist() == pytest.approx([8000, 16000], abs=160)
    smeared = x.copy()
    smeared[7500:8000] += noise_clip(1, seed=8)[:500] * 0.1
    assert artefacts.pre_echo(x, smeared, RATE) > 6
    after = x.copy()
    after[10000:10500] += noise_clip(1, seed=8)[:500] * 0.1
    assert artefacts.pre_echo(x, after, RATE) == pytest.approx(0, abs=0.1)


def test_warble_sees_fluctuation_and_not_level():
    x = noise_clip(1.5, seed=9)
    wave = 1 + 0.5 * np.sin(2 * np.pi * 6 * np.arange(len(x)) / RATE).astype("f4")
    assert artefacts.warble(x, 0.5 * x, RATE) == pytest.approx(0, abs=0.05)
    assert artefacts.warble(x, wave * x, RATE) > 2


def test_measures_refuse_unequal_and_short():
    x = noise_clip()
    with pytest.raises(ValueError, match="equally long"):
        artefacts.warble(x, x[:-1], RATE)
    with pytest.raises(ValueError, match=r"needs 0.5 s"):
        artefacts.warble(x[:1000], x[:1000], RATE)


def test_what_was_raised_before_an_onset_is_taken_down():
    x = 0.001 * noise_clip(1.0)
    x[8000:9600] = 0.3 * noise_clip(0.1, seed=1)
    assert len(noise.onsets(x, RATE)) == 1
    raised = x.copy()
    raised[7500:8000] *= 10
    limited = limit_echo(raised, x)
    assert artefacts.pre_echo(x, raised, RATE) > 10
    assert artefacts.pre_echo(x, limited, RATE) < 1
    assert np.abs(limited - raised)[9600:].max() < 1e-3


def test_pauses_are_only_cut():
    target = np.array([[0.0, -2.0, -8.0, -8.0]])
    own = np.array([[-3.0, -3.0, -9.0, -7.0]])
    assert only_cuts_below(target, own, 4.0).tolist() == [[0.0, -2.0, -9.0, -8.0]]


def test_repairs_make_no_pre_echo_at_onsets():
    x = bursts()
    gain = np.zeros((len(x) // 160, 64))
    level = bands.mel_of(x).mean(1)
    gain[level > level.mean(), 50:] = 1.0
    assert artefacts.pre_echo(x, bands.apply_gain(x, gain), RATE) < 3
