"""The front end against librosa, golden values, framings, phase reconstruction, mistakes."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from audioldm_utils.model.mel import (
    MelConfig,
    griffin_lim,
    griffin_lim_from,
    linear_magnitude,
    log_mel,
)
from audioldm_utils.studies.bottleneck import with_phase
from audioldm_utils.studies.mistakes import MISTAKES, check_latents, check_mel, mistake_cost
from tests.golden.make_golden_mel import PADDING, librosa_log_mel, signal

GOLDEN = Path(__file__).parents[1] / "golden" / "mel.npz"


def batch(x, dtype=torch.float64):
    return torch.as_tensor(np.asarray(x), dtype=dtype)[None]


def music(seconds=1.5, seed=0):
    """Decaying harmonic notes over faint noise, peak 0.5: quiet and loud, tonal and not."""
    rng = np.random.default_rng(seed)
    x = np.zeros(round(seconds * 16000))
    for start in np.arange(0, seconds - 0.25, 0.25):
        time = np.arange(len(x) - round(start * 16000)) / 16000
        pitch = 110 * 2 ** rng.uniform(0, 3)
        note = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 8))
        x[-len(time) :] += note * np.exp(-6 * time)
    x += 3e-4 * rng.standard_normal(len(x))
    x -= x.mean()
    return x * (0.5 / np.abs(x).max())


# The front end.


@pytest.mark.parametrize("framing", PADDING)
def test_equals_librosa(framing):
    for x in (signal(), music(seed=3)):
        wanted = librosa_log_mel(x, framing)
        double = log_mel(batch(x), framing=framing)[0].numpy()
        np.testing.assert_allclose(double, wanted, atol=1e-4, rtol=0)
        single = log_mel(batch(x, torch.float32), framing=framing)[0].numpy()
        np.testing.assert_allclose(single, wanted, atol=1e-2, rtol=0)


@pytest.mark.parametrize("framing", PADDING)
def test_golden_values(framing):
    assert GOLDEN.is_file(), "run python tests/golden/make_golden_mel.py and commit its output"
    with np.load(GOLDEN) as golden:
        mel = log_mel(batch(signal()), framing=framing)[0, ::7].numpy()
        np.testing.assert_allclose(mel, golden[framing], atol=1e-6)


def test_silence_and_frame_counts():
    assert MelConfig().silence == pytest.approx(-11.5129, abs=1e-4)
    assert MelConfig().frame_rate == 100
    mel = log_mel(torch.zeros(2, 1600))
    assert mel.shape == (2, 10, 64)
    assert torch.all(mel == mel.new_tensor(MelConfig().silence))
    assert log_mel(torch.zeros(1, 1759)).shape[1] == 10
    assert log_mel(torch.zeros(1, 1600), framing="inference").shape[1] == 11


def test_framings_are_80_samples_apart():
    # By construction: frame i starts at 160 i - 432 in one and 160 i - 512 in the other.
    assert PADDING["inference"] - PADDING["training"] == 80
    # By shifting: 80 samples of advance turn one into the other, away from the edges.
    x = music()
    early = np.concatenate([x[80:], np.zeros(80)])
    training = log_mel(batch(x))[0, 8:-8]
    inference = log_mel(batch(early), framing="inference")[0, 8:-9]
    torch.testing.assert_close(inference, training, atol=1e-9, rtol=0)
    assert (log_mel(batch(x), framing="inference")[0, 8:-9] - training).abs().mean() > 0.05


def test_gradient_is_finite_at_silence():
    x = torch.zeros(1, 1600, requires_grad=True)
    log_mel(x).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("wave", "options", "sentence"),
    [
        (torch.zeros(1600), {}, r"\(batch, samples\), got shape \(1600,\)"),
        (torch.zeros(1, 400), {}, "400 samples"),
        (torch.zeros(1, 1600), {"framing": "centre"}, "'centre'"),
    ],
)
def test_front_end_refuses(wave, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        log_mel(wave, **options)


# Back to a waveform.


def test_linear_magnitude_has_the_mel_asked_for():
    mel = log_mel(batch(music()))
    linear = linear_magnitude(mel)
    assert linear.shape == (1, 513, mel.shape[1])
    assert linear.min() >= 0
    weights = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=64, fmin=0, fmax=8000)
    back = np.log(np.maximum(weights @ linear[0].numpy(), 1e-5)).T
    ours = np.abs(back - mel[0].numpy()).mean()
    pinv = np.maximum(np.linalg.pinv(weights) @ np.exp(mel[0].numpy().T), 0)
    theirs = np.abs(np.log(np.maximum(weights @ pinv, 1e-5)).T - mel[0].numpy()).mean()
    assert ours < 0.03
    assert ours < theirs / 10


def test_griffin_lim_keeps_length_place_and_mel():
    x = np.zeros(8000)
    x[2500] = 0.5
    time = np.arange(1600) / 16000
    x[5000:6600] = 0.4 * np.sin(2 * np.pi * 1000 * time) * np.hanning(1600)
    mel = log_mel(batch(x, torch.float32))
    y = griffin_lim(mel)[0].numpy()
    assert y.shape == (8000,)
    assert y.dtype == np.float32
    # The click comes out where it went in, and so does the burst.
    assert abs(int(np.abs(y[:4000]).argmax()) - 2500) <= 16
    energy = y[4800:6800] ** 2
    assert abs((energy * np.arange(2000)).sum() / energy.sum() + 4800 - 5799.5) < 16
    # Lag by the mel: unshifted is the best of the shifts tried.
    shifts = (-160, -80, -40, 0, 40, 80, 160)
    errors = [
        float((log_mel(batch(np.roll(y, shift), torch.float32)) - mel).abs().mean())
        for shift in shifts
    ]
    assert shifts[int(np.argmin(errors))] == 0


def test_griffin_lim_error_and_seed():
    mels = log_mel(torch.stack([batch(music(1.0, seed))[0] for seed in (1, 2)]))
    both = griffin_lim(mels, iterations=32, seed=5)
    assert both.shape == (2, 16000)
    alone = griffin_lim(mels[1:], iterations=32, seed=5)
    torch.testing.assert_close(alone[0], both[1])
    assert torch.equal(both, griffin_lim(mels, iterations=32, seed=5))
    assert not torch.equal(both, griffin_lim(mels, iterations=32, seed=6))
    assert float((log_mel(both.double()) - mels).abs().mean()) < 0.35


@pytest.mark.parametrize(("iterations", "near"), [(0, 1e-6), (1, 1e-5), (8, 1e-4)])
def test_griffin_lim_is_librosas(iterations, near):
    magnitude = torch.rand((1, 513, 40), generator=torch.Generator().manual_seed(0)) ** 4
    ours = griffin_lim_from(magnitude, iterations, seed=3)[0].numpy()
    options = {"hop_length": 160, "n_fft": 1024, "center": False, "random_state": 3}
    theirs = librosa.griffinlim(magnitude[0].numpy(), n_iter=iterations, **options)[432:-432]
    assert abs(ours - theirs).max() < near * abs(theirs).max()


def test_griffin_lim_of_silence_is_silence():
    y = griffin_lim(torch.full((1, 50, 64), MelConfig().silence))
    assert y.shape == (1, 8000)
    assert y.abs().max() < 1e-3


@pytest.mark.parametrize(
    ("mel", "sentence"),
    [
        (torch.zeros(1, 64, 50), r"got \(1, 64, 50\)"),
        (torch.zeros(50, 64), r"got \(50, 64\)"),
        (torch.full((1, 50, 64), torch.nan), "NaN"),
    ],
)
def test_griffin_lim_refuses(mel, sentence):
    with pytest.raises(ValueError, match=sentence):
        griffin_lim(mel)


def test_true_phase_nearly_returns_the_waveform():
    x = music()
    y = with_phase(log_mel(batch(x)), batch(x))[0].numpy()
    assert y.shape == x.shape
    assert np.corrcoef(x, y)[0, 1] > 0.9
    longer = with_phase(torch.nn.functional.pad(log_mel(batch(x)), (0, 0, 0, 2)), batch(x))
    assert longer.shape == (1, len(x) + 320)


# Mistakes.


@pytest.fixture(scope="module")
def wave():
    return batch(music(2.0, seed=9))


def names(findings):
    return [finding.name for finding in findings]


def test_right_mel_has_no_findings(wave):
    mel = log_mel(wave)
    assert check_mel(mel) == []
    assert check_mel(mel[0]) == []
    assert check_mel(mel.float(), seconds=2.0, waveform=wave[0]) == []
    padded = torch.nn.functional.pad(mel, (0, 0, 0, 3), value=MelConfig().silence)
    assert check_mel(padded, seconds=2.0, waveform=wave) == []
    assert check_mel(torch.full((1, 40, 64), MelConfig().silence)) == []


def test_loud_noise_and_click_are_not_mistaken():
    noise = np.random.default_rng(0).standard_normal(16000)
    noise *= 0.5 / np.abs(noise).max()
    click = np.zeros(16000)
    click[8000] = 0.5
    for x in (noise, click):
        assert check_mel(log_mel(batch(x))) == []


@pytest.mark.parametrize(
    "name",
    [
        *("transposed", "decibels", "log10", "power", "ref-max", "norm-none", "audiomae"),
        *("int16-scale", "zero-padding"),
    ],
)
def test_mistake_is_told_from_the_values(wave, name):
    (finding,) = check_mel(MISTAKES[name](wave))
    assert finding.name == name
    assert finding.explanation
    assert finding.cure.endswith(".")
    assert str(finding).startswith(f"{name}: ")


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_told_with_the_waveform(wave, name):
    mel = MISTAKES[name](wave)
    before = mel.clone()
    assert names(check_mel(mel, waveform=wave)) == [name]
    assert torch.equal(mel, before)


def test_mistakes_keep_the_shape_of_the_model_input(wave):
    for make in MISTAKES.values():
        assert make(wave).shape[::2] == (1, 64)


def test_wrong_shapes_and_values(wave):
    mel = log_mel(wave)
    assert names(check_mel(mel.transpose(1, 2))) == ["transposed"]
    assert names(check_mel(mel[..., :40])) == ["bands"]
    assert names(check_mel(mel[None])) == ["shape"]
    assert names(check_mel(mel[:, :0])) == ["shape"]
    broken = mel.clone()
    broken[0, 3, 4] = torch.nan
    (finding,) = check_mel(broken)
    assert finding.name == "not-finite"
    assert "1 of" in finding.explanation
    assert names(check_mel(torch.where(mel < -8, mel - 6, mel))) == ["no-floor"]


def test_frame_rate_needs_the_duration(wave):
    stretched = MISTAKES["frame-rate"](wave)
    assert check_mel(stretched) == []
    assert names(check_mel(stretched, seconds=2.0)) == ["frame-rate"]
    assert names(check_mel(log_mel(wave), seconds=2.75)) == ["duration"]
    steady = torch.linspace(0, -8, 64).expand(1, 1024, 64)
    assert check_mel(steady, seconds=10.24) == []
    assert names(check_mel(steady, seconds=10)) == ["frame-rate"]


def test_level_is_measured_with_the_waveform(wave):
    (finding,) = check_mel(log_mel(wave * 2), waveform=wave)
    assert finding.name == "not-normalised"
    assert "+6.0 dB" in finding.explanation


def test_another_waveform_is_said_to_be_one(wave):
    other = batch(music(2.0, seed=10))
    assert names(check_mel(log_mel(other), waveform=wave)) == ["another-front-end"]


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_costs_something(wave, name):
    assert mistake_cost(name, wave) > 0.1


def test_costs_known_by_hand(wave):
    # dB in place of nat: |20/ln(10) - 1| times the mean absolute log-mel, in dB.
    mean = float(log_mel(wave).abs().mean())
    factor = 20 / np.log(10)
    assert mistake_cost("decibels", wave) == pytest.approx((factor - 1) * mean * factor, rel=1e-6)
    assert mistake_cost("log10", wave) == pytest.approx(
        (1 - 1 / np.log(10)) * mean * factor, rel=1e-6
    )


def test_scaling_of_latents():
    z = torch.randn(1, 8, 64, 16, generator=torch.Generator().manual_seed(0))
    assert check_latents(z, 0.41) == []
    assert names(check_latents(z / 0.41, 0.41)) == ["scaling-missing"]
    assert names(check_latents(z * 0.41, 0.41)) == ["scaling-twice"]
    assert names(check_latents(z / 0, 0.41)) == ["not-finite"]
