"""Full-band output: what lies above the model's 8 kHz, from a few bits a second.

The encoder sends the envelope above the crossover (levels of bands about 1.5 kHz wide, some
90 times a second) as a coded field. The decoder fills it with a carrier made from what it has:
its own 4 to 8 kHz band copied up, whose onsets line up with the sound, mixed with noise, and
the result brought to an even level within each band (a random carrier's own fluctuations are
nobody's envelope). After spectral band replication (Dietz et al. 2002, AES 5553).

Everything here works on single waveforms ``(samples,)``, float32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.ndimage

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.audio.signals import fit_length, resample
from audioldm_utils.methods.enhance.coding import NOTHING, BitCoder, FieldCoder, smooth_scale
from audioldm_utils.methods.enhance.stft import Stft

#: The crossover: centre and width of the cross-fade, Hz. The resampler to 16 kHz rolls off from
#: 7.3 kHz, so that the carrier takes over before.
CROSSOVER, FADE = 7400.0, 600.0
#: Width of an envelope band, Hz, and frames in a coded block.
BAND_WIDTH, BLOCK = 1500.0, 32
#: Levels are kept within this range below the waveform's loudest frame, dB.
RANGE_DB = 90.0
#: How much of the envelope the decoder predicts from its own 5.5 to 7 kHz band: two bits.
PREDICTIONS = (0.0, 0.4, 0.7, 1.0)
#: What fills the envelope: copied up or noise, the share of the log-magnitude fluctuations
#: that stays, how much longer the windows are that calm them, and rounds. Sent in two bits.
CARRIERS = {
    "noise": (False, 1.0, 1, 0),
    "copy": (True, 0.4, 1, 6),
    "calm copy": (True, 0.0, 2, 6),
    "calm noise": (False, 0.0, 2, 6),
}


class Extension(NamedTuple):
    """Coded side information, its exact length in bits, and the clip's rate (Hz) and samples."""

    data: bytes
    bits: int
    sample_rate: int
    samples: int


class _Grid(Stft):
    """Bands and frames of one sample rate."""

    def __init__(self, sample_rate: int) -> None:
        # About 23 ms at any rate: short enough for attacks, long enough for 1.5 kHz bands.
        n_fft = 2 ** round(np.log2(sample_rate * 0.0232))
        super().__init__(n_fft, n_fft // 4)
        self.frequencies = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
        low = CROSSOVER - FADE / 2
        self.bands = max(1, round((sample_rate / 2 - low) / BAND_WIDTH))
        edges = np.linspace(low, sample_rate / 2, self.bands + 1)
        self.edges = np.searchsorted(self.frequencies, edges)
        self.first = int(self.edges[0])
        self.edges[-1] = len(self.frequencies)
        self.coder = FieldCoder(smooth_scale(BLOCK, self.bands, 0.8, 3.0, 2.0), predict_mean=True)
        # Envelope of every bin by linear interpolation between the bands' centres.
        centres = (self.edges[:-1] + self.edges[1:] - 1) / 2
        bins = np.arange(self.first, len(self.frequencies))
        rows = [np.interp(bins, centres, row) for row in np.eye(self.bands)]
        self.interpolation = np.stack(rows).astype(np.float32)

    def fade(self, frequency: float) -> np.ndarray:
        """Amplitude ``(bins,)``, from 0 to 1 over :data:`FADE` Hz around ``frequency``."""
        position = (self.frequencies - (frequency - FADE / 2)) / FADE
        return np.sin(np.clip(position, 0, 1) * np.pi / 2)

    def envelope(self, spectrum: np.ndarray) -> np.ndarray:
        """Log amplitude of each band, ``(frames, bands)``, nat.

        Halfway between the logarithm of the mean power and the mean logarithm of the power
        (corrected by Euler's constant, so that both agree on Gaussian noise): a single
        partial in a band would otherwise lift all of the band's noise to its own level.
        """
        power = np.square(np.abs(spectrum), dtype=np.float64) + 1e-20
        bands = np.split(power, self.edges[:-1], axis=1)[1:]
        loud = np.stack([np.log(band.mean(1)) for band in bands], axis=1)
        typical = np.stack([np.log(band).mean(1) for band in bands], axis=1)
        return 0.25 * (loud + np.minimum(typical + np.euler_gamma, loud))

    def predicted(self, base: np.ndarray) -> tuple[float, np.ndarray]:
        """What a decoder knows of the envelope from the spectrum that it has.

        The lowest level worth sending, :data:`RANGE_DB` below the loudest bin, and how far
        5.5 to 7 kHz lie above it, ``(frames, 1)``; both log amplitudes.
        """
        floor = float(np.log(np.abs(base).max() + 1e-12)) - RANGE_DB * np.log(10) / 20
        band = (self.frequencies >= 5500) & (self.frequencies < 7000)
        power = np.square(np.abs(base[:, band]), dtype=np.float64).mean(1)
        return floor, np.maximum(0.5 * np.log(power + 1e-20), floor)[:, None] - floor


def upsample(waveform: np.ndarray, sample_rate: int, samples: int) -> np.ndarray:
    """A 16 kHz waveform at ``sample_rate``, cut or zero-padded to ``samples``."""
    return fit_length(resample(waveform, MODEL_RATE, sample_rate), samples)


def encode_extension(
    reference: np.ndarray, low: np.ndarray, sample_rate: int, kbps: float = 1.0, seed: int = 0
) -> Extension:
    """Side information above the crossover, at most ``kbps`` kilobits a second.

    The encoder tries each carrier and sends which one comes nearest in log-spectral distance.
    ``reference`` is the original at ``sample_rate`` Hz, ``low`` what the decoder will have at
    16 kHz; ``seed`` of the carrier's noise is the decoder's too.
    """
    samples = len(reference)
    grid = _Grid(max(sample_rate, MODEL_RATE))
    if sample_rate <= MODEL_RATE or not grid.frames(samples):
        return Extension(b"", 0, sample_rate, samples)
    floor, guide = grid.predicted(grid.core(grid.analyse(upsample(low, sample_rate, samples))))
    target = np.maximum(grid.envelope(grid.core(grid.analyse(reference))), floor) - floor
    budget = kbps * 1000 * samples / sample_rate - 8
    tried = []
    for choice, share in enumerate(PREDICTIONS):
        field = target - share * guide
        step = grid.coder.finest_step(field, budget)
        if step is not None:
            error = float(np.abs(grid.coder.code(BitCoder(), field, step) - field).mean())
            tried.append((error, choice, step))
    if not tried:
        return Extension(*NOTHING, sample_rate, samples)
    _, choice, step = min(tried)
    candidates = []
    for carrier in range(len(CARRIERS)):
        writer = BitCoder()
        writer.bit(1)
        writer.number(carrier, 2)
        writer.number(choice, 2)
        grid.coder.code(writer, target - PREDICTIONS[choice] * guide, step)
        candidates.append(Extension(*writer.finish(), sample_rate, samples))
    made = [decode_extension(candidate, low, seed) for candidate in candidates]
    distances = [_distance(reference, waveform, sample_rate) for waveform in made]
    return candidates[int(np.argmin(distances))]


def _distance(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Log-spectral distance above 8 kHz, dB, floored 80 dB below the reference's peak."""
    stft = Stft(2048, 512)
    above = int(np.ceil(8000 * 2048 / sample_rate))
    first, second = np.abs(stft.analyse(reference)), np.abs(stft.analyse(estimate))
    floor = 1e-4 * first.max() + 1e-12
    ratio = np.maximum(first[:, above:], floor) / np.maximum(second[:, above:], floor)
    return float(np.sqrt(np.square(20 * np.log10(ratio)).mean(1)).mean())


def _copy_up(grid: _Grid, base: np.ndarray) -> np.ndarray:
    """The decoder's own 4 to 7 kHz, repeated above the crossover."""
    copy = np.zeros((len(base), base.shape[1] - grid.first), np.complex64)
    top = int(7000 / grid.frequencies[1])
    width = (top - int(4000 / grid.frequencies[1])) // 4 * 4
    # A shift by a multiple of four bins keeps phases continuous at a hop of a quarter.
    for offset in range(0, copy.shape[1], width):
        begin = grid.first + offset
        shift = -(-(begin + width - top) // 4) * 4
        piece = base[:, begin - shift : begin - shift + width]
        copy[:, offset : offset + width] = piece[:, : copy.shape[1] - offset]
    return copy


def _calm(high: np.ndarray, grid: _Grid, shrink: float, longer: int, rounds: int) -> np.ndarray:
    """Shrink a waveform's log-magnitude fluctuations around its smooth spectrum."""
    stft = Stft(grid.n_fft * longer, grid.hop * longer)
    first = grid.first * longer
    width = max(3, round(750 * longer / grid.frequencies[1]))
    target: np.ndarray | None = None
    for _ in range(rounds):
        spectrum = stft.analyse(high)
        spectrum[:, :first] = 0
        size = np.abs(spectrum[:, first:])
        if target is None:
            power = np.square(size) + 1e-18
            # The running sum rounds to below nothing beside a strong partial.
            mean = scipy.ndimage.uniform_filter1d(power, width, axis=1)
            loud = np.log(np.maximum(mean, 1e-18))
            typical = scipy.ndimage.uniform_filter1d(np.log(power), width, axis=1)
            smooth = np.exp(0.25 * (loud + typical))
            target = smooth ** (1 - shrink) * size**shrink
        spectrum[:, first:] *= target / (size + 1e-9)
        high = stft.synthesise(spectrum, len(high))
    return high


def _fill(
    grid: _Grid, envelope: np.ndarray, spectrum: np.ndarray, samples: int, carrier: str, seed: int
) -> np.ndarray:
    """Spectrum of the band above the crossover, below it zero."""
    copy, shrink, longer, rounds = CARRIERS[carrier]
    high = np.zeros_like(spectrum)
    if copy:
        high[:, grid.first :] = _copy_up(grid, spectrum)
    else:
        count = (len(spectrum) + 1) * grid.hop
        white = np.random.default_rng(seed).standard_normal(count, dtype=np.float32)
        high[:, grid.first :] = grid.analyse(white)[: len(spectrum), grid.first :]
    # Divided by its own envelope, a carrier is even within each band.
    own = grid.envelope(high)
    even = np.exp(-np.maximum(own, own.max() - 12) @ grid.interpolation)
    gain = np.exp(grid.spread(envelope) @ grid.interpolation)
    high[:, grid.first :] = high[:, grid.first :] * even * gain
    if shrink < 1:
        high = grid.analyse(_calm(grid.synthesise(high, samples), grid, shrink, longer, rounds))
    return high


def decode_extension(
    extension: Extension, low: np.ndarray, seed: int = 0, carrier: str | None = None
) -> np.ndarray:
    """Full-band waveform ``(samples,)`` at the extension's rate; ``low`` and ``seed`` as encoded.

    ``carrier``: one of :data:`CARRIERS` in place of the encoder's choice; ``"noise"`` is the plain
    envelope-shaped noise that the others are judged by.
    """
    base = upsample(low, extension.sample_rate, extension.samples)
    reader = BitCoder(extension.data)
    if not extension.bits or not reader.bit():
        return base
    grid = _Grid(extension.sample_rate)
    spectrum = grid.analyse(base)
    chosen, share = list(CARRIERS)[reader.number(width=2)], PREDICTIONS[reader.number(width=2)]
    floor, guide = grid.predicted(grid.core(spectrum))
    envelope = grid.coder.code(reader, np.zeros((len(guide), grid.bands))) + floor + share * guide
    # Nothing at the floor is meant to sound.
    envelope = np.where(envelope <= floor + 0.2, -50.0, envelope)
    high = _fill(grid, envelope, spectrum, extension.samples, carrier or chosen, seed)
    # At equal power: the two sides are not coherent.
    fade = grid.fade(CROSSOVER).astype(np.float32)
    return grid.synthesise(spectrum * np.sqrt(1 - fade**2) + high * fade, extension.samples)


def oracle_crossover(
    reference: np.ndarray, low: np.ndarray, sample_rate: int, frequency: float = CROSSOVER
) -> np.ndarray:
    """Oracle, not a method: the original itself above ``frequency``, the decoder's below.

    The upper bound of any band extension. Both are cross-faded over :data:`FADE` Hz.
    """
    grid = _Grid(max(sample_rate, 4000))
    own = upsample(low, sample_rate, len(reference)) if sample_rate != MODEL_RATE else low
    fade = grid.fade(frequency) ** 2
    spectrum = grid.analyse(own) * (1 - fade) + grid.analyse(reference) * fade
    return grid.synthesise(spectrum.astype(np.complex64), len(reference))
