"""The front-end mistakes people make with AudioLDM2: reproduced, and named in a foreign mel.

The limits hold for waveforms of peak 0.5: by the window's sum and the filterbank's weights no
correct value exceeds 1.73, and of 105 clips of 39 classes every one goes below -4.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import librosa
import torch

from audioldm_utils.model.mel import MelConfig, log_mel, stft_magnitude

#: No log-mel of a waveform with peak 0.5 is higher (a sine in the narrowest band).
HIGHEST = 1.73
#: Mean and standard deviation with which AudioMAE standardises its own (Kaldi) features.
AUDIOMAE = (-4.2677393, 4.5689974)
#: Frames a second that some code assumes (1024 frames for 10 s); the truth is 100.
WRONG_FRAME_RATE = 102.4


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: what was seen, and what to do about it."""

    name: str
    explanation: str
    cure: str

    def __str__(self) -> str:
        return f"{self.name}: {self.explanation} {self.cure}"


@cache
def _weights(htk: bool, norm: str | None) -> torch.Tensor:
    front = MelConfig()
    options = {"n_mels": front.n_mels, "fmin": front.fmin, "fmax": front.fmax}
    return torch.as_tensor(
        librosa.filters.mel(sr=front.sample_rate, n_fft=front.n_fft, htk=htk, norm=norm, **options)
    )


def _mel(
    waveform: torch.Tensor, power: float = 1.0, htk: bool = False, norm: str | None = "slaney"
) -> torch.Tensor:
    """Mel spectrogram without a logarithm, ``(batch, frames, 64)``."""
    weights = _weights(htk, norm).to(waveform)
    return (weights @ stft_magnitude(waveform) ** power).transpose(1, 2)


def _ln(mel: torch.Tensor) -> torch.Tensor:
    return mel.clamp(min=MelConfig().floor).log()


def _decibels(waveform: torch.Tensor) -> torch.Tensor:
    return 20 * torch.log10(torch.clamp(_mel(waveform), min=MelConfig().floor))


def _ref_max(waveform: torch.Tensor) -> torch.Tensor:
    decibels = 10 * torch.log10(torch.clamp(_mel(waveform, power=2.0), min=1e-10))
    return torch.clamp(decibels - decibels.amax((1, 2), keepdim=True), min=-80.0)


def _scrambled(waveform: torch.Tensor) -> torch.Tensor:
    mel = log_mel(waveform)  # bands first, read as if time came first: the shape is right
    return mel.transpose(1, 2).reshape(mel.shape)


def _zero_padded(waveform: torch.Tensor) -> torch.Tensor:
    mel = log_mel(waveform)
    return torch.nn.functional.pad(mel, (0, 0, 0, -mel.shape[1] % 1024 or 1024))


def _stretched(waveform: torch.Tensor) -> torch.Tensor:
    mel = log_mel(waveform).transpose(1, 2)
    frames = round(mel.shape[2] * WRONG_FRAME_RATE / MelConfig().frame_rate)
    return torch.nn.functional.interpolate(mel, size=frames, mode="linear").transpose(1, 2)


#: name -> function that makes the wrong log-mel of a normalised waveform ``(batch, samples)``
#: in the shape that the VAE takes.
MISTAKES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": _scrambled,
    "decibels": _decibels,
    "log10": lambda waveform: log_mel(waveform) / math.log(10),
    "power": lambda waveform: _ln(_mel(waveform, power=2.0)),
    "ref-max": _ref_max,
    "norm-none": lambda waveform: _ln(_mel(waveform, norm=None)),
    "htk": lambda waveform: _ln(_mel(waveform, htk=True)),
    "audiomae": lambda waveform: (log_mel(waveform) - AUDIOMAE[0]) / (2 * AUDIOMAE[1]),
    "int16-scale": lambda waveform: log_mel(waveform * 32768),
    "not-normalised": lambda waveform: log_mel(waveform / 10),
    "zero-padding": _zero_padded,
    "frame-rate": _stretched,
    "framing": lambda waveform: log_mel(waveform, framing="inference"),
}

#: What each mistake is, and its cure.
TEXTS: dict[str, tuple[str, str]] = {
    "transposed": (
        "Bands come before frames.",
        "Swap the last two axes with transpose, not reshape.",
    ),
    "decibels": (
        "The values are decibels.",
        "Take the natural logarithm; dB x ln(10)/20 of a magnitude mel converts it.",
    ),
    "log10": ("The logarithm is to base 10.", "Multiply by ln(10) = 2.3026."),
    "power": (
        "The mel is of the power spectrum, not of the magnitude.",
        "Use the magnitude (librosa: power=1.0); halving the logarithm does not undo it.",
    ),
    "ref-max": (
        "The values are relative to the clip's own maximum.",
        "Leave out ref=max, top_db and scaling to a unit range: the level is lost with them.",
    ),
    "norm-none": (
        "The filterbank is not area-normalised: values are 3.8 (low bands) to 6 (high) too high.",
        "Use librosa's Slaney filterbank with norm='slaney'.",
    ),
    "htk": ("The filterbank follows the HTK mel scale.", "Use Slaney's (librosa: htk=False)."),
    "audiomae": (
        "The values are standardised with AudioMAE's constants (-4.27, 4.57).",
        "Multiply by 2 x 4.5690 and subtract 4.2677: the VAE takes the plain logarithm.",
    ),
    "int16-scale": (
        "The waveform was on the 16-bit integer scale.",
        "Divide the samples by 32768, then scale the peak to 0.5.",
    ),
    "not-normalised": (
        "The waveform's level is not the front end's.",
        "Subtract the mean and scale the peak to 0.5 first; undo both at the end.",
    ),
    "zero-padding": (
        "Whole frames are exactly 0, which is a level near the loudest there is.",
        "Pad with silence, ln(1e-5) = -11.51.",
    ),
    "frame-rate": (
        "There are 102.4 frames a second; the front end makes 100 (hop 160 at 16 kHz).",
        "Take 100 frames a second: 10.24 s are 1024 frames, 10 s are 1000.",
    ),
    "framing": (
        "The framing is the pipeline's (512 padded, one frame more), 80 samples early.",
        "For reconstruction pad 432 samples each side (framing='training').",
    ),
    "scaling-missing": (
        "The latents were not multiplied by the scaling factor.",
        "Multiply the encoder's output by vae.config.scaling_factor, read, never typed.",
    ),
    "scaling-twice": (
        "The latents were multiplied by the scaling factor twice.",
        "Multiply once after the encoder, divide once before the decoder.",
    ),
    "shape": ("This is no mel.", "Give (batch, frames, 64)."),
    "bands": ("The number of mel bands is wrong.", "Compute 64 bands, 0 to 8000 Hz, at 16 kHz."),
    "not-finite": (
        "There are NaN or infinite values.",
        "Clamp the mel at 1e-5 before the logarithm, and check the waveform.",
    ),
    "no-floor": (
        "Values go below ln(1e-5) = -11.51.",
        "Clamp the mel at 1e-5 before the logarithm.",
    ),
    "duration": ("The frames do not fit the duration.", "Check sample rate and hop (16 kHz, 160)."),
    "another-front-end": (
        "The mel is not this waveform's, and no known mistake explains the difference.",
        "Check the sample rate, the window (periodic Hann, 1024), the hop (160) and the clip.",
    ),
}


def _finding(name: str, seen: str = "") -> Finding:
    explanation, cure = TEXTS[name]
    return Finding(name, f"{explanation} {seen}".strip(), cure)


def check_mel(
    mel: torch.Tensor,
    config: MelConfig = MelConfig(),
    *,
    seconds: float | None = None,
    waveform: torch.Tensor | None = None,
) -> list[Finding]:
    """Name what is wrong with a log-mel made elsewhere, the most basic first.

    From the values alone no right mel of 32 signals raises a finding; HTK, framing and level
    need the waveform, with which every mistake is told.

    Args:
        mel: ``(batch, frames, 64)`` or ``(frames, 64)``.
        seconds: duration of the clip, which lets the frame rate be checked.
        waveform: 16 kHz, peak 0.5, ``(batch, samples)`` or ``(samples,)``, from which the
            mel is said to come.
    """
    mel = torch.as_tensor(mel).detach().to("cpu", torch.float64)
    mel = mel[None] if mel.ndim == 2 else mel
    seen = f"Its shape is {tuple(mel.shape)}."
    if mel.ndim != 3 or not mel.numel():
        return [_finding("shape", seen)]
    if mel.shape[2] != config.n_mels:
        return [_finding("transposed" if mel.shape[1] == config.n_mels else "bands", seen)]
    bad = mel.numel() - int(torch.isfinite(mel).sum())
    if bad:
        return [_finding("not-finite", f"They are {bad} of {mel.numel()}.")]
    findings = []
    if seconds is not None:
        findings += _check_duration(mel.shape[1], seconds, config)
    padding = (mel == 0).all(dim=2)
    if padding.any():
        findings.append(_finding("zero-padding", f"They are {int(padding.sum())} frames."))
        if padding.all():
            return findings
    if waveform is not None:
        waveform = torch.as_tensor(waveform).detach().to("cpu", torch.float64)
        return findings + _compare(mel, waveform if waveform.ndim == 2 else waveform[None], config)
    if _is_scrambled(mel):
        return [*findings, _finding("transposed", "The bands run along the frames.")]
    return findings + _check_values(mel[~padding], config)


def _is_scrambled(mel: torch.Tensor) -> bool:
    """Whether successive frames are unrelated, and the mel is smoother read bands first."""
    batch, frames, bands = mel.shape
    unravelled = mel.reshape(batch, bands, frames).transpose(1, 2)

    def roughness(x: torch.Tensor) -> float:
        return float((x[:, 1:] - x[:, :-1]).abs().mean())

    found = roughness(mel) if frames > 1 else 0.0
    # In a right mel frames overlap by 84 %: the steps are a tenth to a third of the spread.
    return found > 0.5 * float(mel.std()) and roughness(unravelled) < 0.5 * found


def _check_duration(frames: int, seconds: float, config: MelConfig) -> list[Finding]:
    seen = f"{frames} frames for {seconds:.3f} s are {frames / seconds:.2f} a second."
    # One frame more is the other framing; three more fill up a multiple of four.
    if -1 <= frames - seconds * config.frame_rate <= 4:
        return []
    stretched = abs(frames - seconds * WRONG_FRAME_RATE) <= 1 + 0.002 * frames
    return [_finding("frame-rate" if stretched else "duration", seen)]


def _check_values(values: torch.Tensor, config: MelConfig) -> list[Finding]:
    """Findings from the range and the distribution of the values, ``(frames, 64)``."""
    low, high = float(values.min()), float(values.max())
    seen = f"They run from {low:.2f} to {high:.2f}."
    if max(abs(high - config.silence), abs(low - config.silence)) < 0.01:
        return []
    if (abs(high) < 1e-6 and low < -15) or (low >= 0 and 0.95 < high <= 1.0001):
        return [_finding("ref-max", seen)]
    if low < -24:
        return [_finding("decibels", seen)]
    if low < config.silence - 0.01:
        return [_finding("no-floor", seen)]
    if high > HIGHEST:
        # The 16-bit scale adds 10.4, so that the floor is never met.
        if high > 8.5:
            return [_finding("int16-scale", seen)]
        above = values[values > config.silence + 0.01]
        quiet = float(torch.quantile(above[:: max(len(above) // 100_000, 1)], 0.02))
        # Squaring spreads the values, a missing norm only raises them.
        seen += " The waveform would tell for certain whether power or a missing norm it is."
        return [_finding("norm-none" if quiet > -7.25 else "power", seen)]
    if low > -1.6 and high - low < 2.5:
        return [_finding("audiomae", seen)]
    bottom = math.log10(config.floor)
    if low > bottom - 0.01 and high < HIGHEST / math.log(10):
        # Loud noise keeps above -5 in natural logarithms too, but moves more between frames.
        steps = (values[1:] - values[:-1]).abs().flatten()
        moving = steps[steps > 1e-6]
        if low < bottom + 0.01 or (len(moving) and float(moving.median()) < 0.085):
            return [_finding("log10", seen)]
    if high < HIGHEST - 6:
        return [_finding("not-normalised", seen)]
    return []


def _compare(mel: torch.Tensor, waveform: torch.Tensor, config: MelConfig) -> list[Finding]:
    """Compare with the right mel of the waveform, then with each mistake's."""

    def distance(other: torch.Tensor) -> float:
        # Padding at the end of either is no difference; a whole frame at a time is.
        frames = min(mel.shape[1], other.shape[1])
        if other.shape[::2] != mel.shape[::2] or abs(mel.shape[1] - other.shape[1]) > 3:
            return math.inf
        return float((mel[:, :frames] - other[:, :frames]).abs().mean())

    padding = (mel == 0).all(dim=2)
    if padding.any():
        mel = mel[:, : int((~padding).any(dim=0).nonzero().max()) + 1]
    error = distance(log_mel(waveform, config))
    if error < 0.01:
        return []
    distances = {
        name: distance(make(waveform))
        for name, make in MISTAKES.items()
        if name not in ("zero-padding", "not-normalised")
    }
    name = min(distances, key=distances.__getitem__)
    if distances[name] < min(0.02 * (1 + float(mel.std())), error / 3):
        return [_finding(name, f"It differs from that mistake by {distances[name]:.4f}.")]
    right = log_mel(waveform, config)
    if right.shape[1] <= mel.shape[1] <= right.shape[1] + 3:
        heard = (right > config.silence + 3) & (mel[:, : right.shape[1]] > config.silence + 0.01)
        offset = (mel[:, : right.shape[1]] - right)[heard]
        if len(offset) > 1 and float(offset.std()) < 0.05:
            gain = float(offset.mean()) * 20 / math.log(10)
            return [_finding("not-normalised", f"It is {gain:+.1f} dB off.")]
    return [_finding("another-front-end", f"The mean difference is {error:.3f} nat.")]


def mistake_cost(name: str, waveform: torch.Tensor) -> float:
    """Mean absolute error that a mistake brings into the mel the model sees, dB of log-mel.

    Padding counts against silence; other frames beyond the right mel's are left out. The
    waveform is ``(batch, samples)`` at 16 kHz, peak 0.5.
    """
    right, wrong = log_mel(waveform), MISTAKES[name](waveform)
    extra = wrong.shape[1] - right.shape[1]
    # Only padding is padding; the further frames of the others hold the clip's end.
    if name != "zero-padding":
        wrong = wrong[:, : right.shape[1]]
    elif extra > 0:
        right = torch.nn.functional.pad(right, (0, 0, 0, extra), value=MelConfig().silence)
    return float((wrong - right).abs().mean()) * 20 / math.log(10)


def check_latents(latents: torch.Tensor, scaling_factor: float) -> list[Finding]:
    """Name a missing or doubled scaling factor of VAE latents of any shape.

    Over the training set their standard deviation is 1; a clip's own lies between 0.5 and 1.6.
    There is at most one finding, ``"scaling-missing"``, ``"scaling-twice"`` or ``"not-finite"``.
    """
    spread = float(torch.as_tensor(latents).double().std())
    if not math.isfinite(spread):
        return [_finding("not-finite")]
    level, factor = math.log(max(spread, 1e-12)), math.log(scaling_factor)
    # What the logarithm of a right clip's spread would be, were each the case.
    assumed = {"": level, "scaling-missing": level + factor, "scaling-twice": level - factor}
    name = min(assumed, key=lambda name: abs(assumed[name]))
    if not name:
        return []
    return [_finding(name, f"Their standard deviation is {spread:.3f}; near 1 is expected.")]
