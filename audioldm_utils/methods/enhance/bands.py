"""What VAE and vocoder lose in each mel band, and putting it back.

**Blind**, a :class:`Compensation` fitted on other clips than it is judged on, which costs no
bits; and by **side information** from 4 to 8 kHz, a coded field at a bounded rate.

A log-mel sums magnitudes and does not say how much energy a band holds: a partial has up to
10 dB more of it than noise of the same log-mel. :func:`tonality` reads from the whole mel which
of the two it is, and the compensation knows what energy goes with it.

Gains are natural logarithms, ``(frames, n_mels)``, on the front end's frame grid.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.ndimage

from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write
from audioldm_utils.methods.enhance.coding import FieldCoder, smooth_scale
from audioldm_utils.methods.enhance.stft import (
    MEL,
    Stft,
    band_centres,
    bands_to_bins,
    log_energy_of,
    log_mel_of,
    mel_weights,
)
from audioldm_utils.model.fits import fitted_path

#: Largest boost and cut that any repair applies, natural logarithm (17 dB and 35 dB).
MAX_BOOST, MAX_CUT = 2.0, 4.0
#: Edges of the band that "high frequencies" means below the model's limit, Hz.
HIGH_BAND = (4000.0, 8000.0)
#: Frames in a block of side information (0.32 s).
BLOCK = 32
#: Levels more than this below the loudest value carry no audible energy, nat (52 dB).
RELEVANT = 6.0
#: Tonality is measured over this many frames (0.17 s), against the mean of so many bands.
STANDING, NEIGHBOURS = 17, 7
_STFT = Stft()
#: What a compensation holds beside fingerprint and clips, in the order of its file.
_ARRAYS = ("levels", "table", "mel_table", "tonalities", "concentration", "scale")


def high_bands() -> np.ndarray:
    """Indices of the mel bands whose centre lies from 4 to 8 kHz."""
    return np.flatnonzero((band_centres() >= HIGH_BAND[0]) & (band_centres() < HIGH_BAND[1]))


def mel_of(waveform: np.ndarray) -> np.ndarray:
    """Log-mel ``(frames, n_mels)`` of a 16 kHz waveform ``(samples,)``."""
    return log_mel_of(_STFT.core(_STFT.analyse(waveform)))


def energy_of(waveform: np.ndarray) -> np.ndarray:
    """Log energy ``(frames, n_mels)`` of the mel bands of a 16 kHz waveform ``(samples,)``."""
    return log_energy_of(_STFT.core(_STFT.analyse(waveform)))


def tonality(mel: np.ndarray) -> np.ndarray:
    """How far bands of a log-mel stand out from their neighbours, and stay so: ``(frames,)``, nat.

    Near 0 for noise, whatever its envelope; about 1 for held tones with their partials.
    """
    ripple = mel - scipy.ndimage.uniform_filter1d(mel, NEIGHBOURS, axis=1, mode="nearest")
    standing = scipy.ndimage.uniform_filter1d(ripple, STANDING, axis=0, mode="nearest")
    return np.abs(standing).mean(1)


def apply_gain(waveform: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Multiply the bands of a 16 kHz waveform ``(samples,)`` by ``exp(gain)``, its phases kept.

    The gain ``(frames, n_mels)``, at most :data:`MAX_BOOST` and :data:`MAX_CUT`, is interpolated
    between the bands; between the frames overlapping windows cross-fade it.
    """
    expected = (_STFT.frames(len(waveform)), MEL.n_mels)
    if gain.shape != expected:
        raise ValueError(f"gain must be {expected} for this waveform, got shape {gain.shape}")
    if not len(gain):
        return waveform.astype(np.float32)
    bins = np.exp(np.clip(gain, -MAX_CUT, MAX_BOOST).astype(np.float32) @ bands_to_bins())
    spectrum = _STFT.analyse(waveform) * _STFT.spread(bins)
    return _STFT.synthesise(spectrum, len(waveform))


def read_table(knots: np.ndarray, table: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A table ``(knots, n_mels)`` at ``(frames, n_mels)``, linear between its rising knots."""
    columns = zip(at.T, table.T, strict=True)
    return np.stack([np.interp(x, knots, column) for x, column in columns], 1)


@dataclass(frozen=True)
class Compensation:
    """Mean log gain per level and mel band, fitted for one checkpoint.

    Attributes:
        fingerprint: of the checkpoint it was fitted on.
        levels: ``(levels,)`` log-mel values (natural logarithm) where the table has knots.
        table: ``(levels, n_mels)`` gain, nat, of the vocoder's output at that level.
        mel_table: the same for the VAE's decoded log-mel, before any vocoder.
        tonalities: ``(knots,)`` values of :func:`tonality` where the next table has knots.
        concentration: ``(knots, n_mels)`` how far the original's log energy lies above its
            log-mel on average, nat, where the decoded mel is that tonal.
        scale: ``(BLOCK, high bands)`` mean absolute cosine coefficient of the log energy that
            is missing from 4 to 8 kHz after the gain; the side-information coder's statistics.
        clips: names of the clips it was fitted on, so that nobody judges it on them.
    """

    fingerprint: str
    levels: np.ndarray
    table: np.ndarray
    mel_table: np.ndarray
    tonalities: np.ndarray
    concentration: np.ndarray
    scale: np.ndarray
    clips: tuple[str, ...] = ()

    def gain(self, mel: np.ndarray) -> np.ndarray:
        """Gain ``(frames, n_mels)`` for the log-mel of the vocoder's waveform."""
        return read_table(self.levels, self.table, mel)

    def mel_gain(self, mel: np.ndarray) -> np.ndarray:
        """The same for the VAE's decoded log-mel."""
        return read_table(self.levels, self.mel_table, mel)

    def energy_target(self, mel: np.ndarray) -> np.ndarray:
        """Log energy that the original is likely to have, nat, by the VAE's decoded log-mel."""
        tonal = np.broadcast_to(tonality(mel)[:, None], mel.shape)
        held = read_table(self.tonalities, self.concentration, tonal)
        return mel + self.mel_gain(mel) + held

    def to_json(self) -> str:
        """Text form, rounded to 1e-4 nat; one row of the table a line."""

        def shown(values: np.ndarray) -> str:
            if values.ndim == 1:
                return json.dumps([round(float(v), 4) for v in values])
            return "[\n  " + ",\n  ".join(map(shown, values)) + "\n ]"

        texts = {"fingerprint": json.dumps(self.fingerprint)}
        texts |= {name: shown(getattr(self, name)) for name in _ARRAYS}
        texts |= {"clips": json.dumps(list(self.clips))}
        return "{\n" + ",\n".join(f' "{name}": {text}' for name, text in texts.items()) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> Compensation:
        """The inverse of :meth:`to_json`; UserError if the text, of ``source``, is no such file."""
        try:
            content = json.loads(text)
            arrays = {name: np.array(content[name], float) for name in _ARRAYS}
            fit = cls(str(content["fingerprint"]), **arrays, clips=tuple(content["clips"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{source}: not a compensation file ({error}); fit it again") from error
        knots = {"table": fit.levels, "mel_table": fit.levels, "concentration": fit.tonalities}
        shapes = {name: (len(at), MEL.n_mels) for name, at in knots.items()}
        for name, shape in (shapes | {"scale": (BLOCK, len(high_bands()))}).items():
            if arrays[name].shape != shape:
                raise UserError(f"{source}: its {name} has the wrong shape; fit it again")
        return fit


def noise_concentration() -> np.ndarray:
    """Log energy less log-mel of white noise, ``(n_mels,)``, nat.

    With magnitudes from Rayleigh's distribution, whose mean square is 4 / pi of its squared
    mean, and a band's filter weights adding to w: log(4 / pi) / 2 - log(w) / 2.
    """
    return 0.5 * (np.log(4 / np.pi) - np.log(mel_weights().sum(1)))


def identity_compensation(fingerprint: str) -> Compensation:
    """A compensation that changes nothing, with plausible statistics for the coder."""
    levels, flat = np.array([MEL.silence, 2.0]), np.zeros((2, MEL.n_mels))
    noise = np.tile(noise_concentration(), (2, 1))
    scale = smooth_scale(BLOCK, len(high_bands()), 0.6, 4.0, 2.0)
    return Compensation(fingerprint, levels, flat, flat, np.array([0.0, 1.0]), noise, scale)


def relevant_difference(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Reference minus estimate, both floored where the clip's loudest value masks them."""
    floor = max(float(reference.max()) - RELEVANT, MEL.silence)
    return np.maximum(reference, floor) - np.maximum(estimate, floor)


def high_bands_by_side_information(
    reference: np.ndarray, estimate: np.ndarray, fit: Compensation, budget: float
) -> tuple[np.ndarray, int]:
    """What ``estimate`` lacks of ``reference`` from 4 to 8 kHz, as a decoder gets it.

    Both are log energies ``(frames, n_mels)``, :func:`energy_of`; ``fit.scale`` is the coder's
    statistics. Returns the gain ``(frames, n_mels)``, 0 below 4 kHz, decoded from the coded bytes,
    and the exact number of bits in these, at most ``budget`` (or 1).
    """
    high, coder = high_bands(), FieldCoder(fit.scale)
    missing = relevant_difference(reference[:, high], estimate[:, high])
    data, bits = coder.encode(missing, budget)
    gain = np.zeros(reference.shape)
    gain[:, high] = coder.decode(data, len(gain))
    return gain, bits


def compensation_path(checkpoint: str | Path, fingerprint: str, synthesis: str = "vocoder") -> Path:
    """File of what is fitted to a checkpoint's sound by a synthesis; its fingerprint names it."""
    name = "compensation" if synthesis == "vocoder" else f"compensation-{synthesis}"
    return fitted_path(checkpoint, fingerprint, name, ".json")


def save_compensation(
    fit: Compensation, checkpoint: str | Path, synthesis: str = "vocoder"
) -> Path:
    """Write a fit into the checkpoint's folder; returns the file."""
    path = compensation_path(checkpoint, fit.fingerprint, synthesis)
    atomic_write(path, fit.to_json())
    return path


def load_compensation(
    checkpoint: str | Path, fingerprint: str, synthesis: str = "vocoder"
) -> Compensation:
    """The fit in a checkpoint's folder; UserError if there is none, or another checkpoint's."""
    path = compensation_path(checkpoint, fingerprint, synthesis)
    if not path.exists():
        raise UserError(
            f"no compensation is fitted for this checkpoint and the synthesis {synthesis} ({path} "
            f"is missing): run audioldm-utils fit --checkpoint {checkpoint} --synthesis "
            f"{synthesis} --audio DIR."
        )
    fit = Compensation.from_json(path.read_text(), str(path))
    if fit.fingerprint != fingerprint:
        raise UserError(f"{path} belongs to another checkpoint: run audioldm-utils fit again.")
    return fit
