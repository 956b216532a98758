"""Full-band output: what lies above the model's 8 kHz, from a few bits a second.

The encoder sends the envelope above the crossover (levels of bands about 1.5 kHz wide, some
90 times a second) as a coded field. The decoder fills it with a carrier made from what it has:
its own 4 to 8 kHz band copied up, whose onsets line up with the sound, mixed with noise, and
the result brought to an even level within each band (a random carrier's own fluctuations are
nobody's envelope). After spectral band replication (Dietz et al. 2002, AES 5553).

Everything here works on single waveforms ``(samples,)``, float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from audioldm_utils.audio import MODEL_RATE
from audioldm_utils.methods.enhance.coding import BitReader, BitWriter, FieldCoder, smooth_scale
from audioldm_utils.methods.enhance.stft import Stft

#: The model's own rate, Hz, and the crossover: centre and width of the cross-fade, Hz. The
#: resampler to 16 kHz rolls off from 7.3 kHz, so that the carrier takes over before.
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
CARRIER_BITS = 2


@dataclass(frozen=True)
class Extension:
    """Coded side information, its exact length in bits, and the clip's rate (Hz) and samples."""

    data: bytes
    bits: int
    sample_rate: int
    samples: int


class _Grid:
    """Bands and frames of one sample rate."""

    def __init__(self, sample_rate: int) -> None:
        # About 23 ms at any rate: short enough for attacks, long enough for 1.5 kHz bands.
        n_fft = 2 ** round(np.log2(sample_rate * 0.0232))
        self.stft = Stft(n_fft, n_fft // 2 // 2)
        self.frequencies = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
        low = CROSSOVER - FADE / 2
        count = max(1, round((sample_rate / 2 - low) / BAND_WIDTH))
        edges = np.linspace(low, sample_rate / 2, count + 1)
        self.first = int(np.searchsorted(self.frequencies, low))
        self.edges = np.searchsorted(self.frequencies, edges)
        self.edges[-1] = len(self.frequencies)
        self.bands = count
        self.coder = FieldCoder(smooth_scale(BLOCK, count, 0.8, 3.0, 2.0), predict_mean=True)
        # Envelope of every bin by linear interpolation between the bands' centres.
        centres = (self.edges[:-1] + self.edges[1:] - 1) / 2
        bins = np.arange(self.first, len(self.frequencies))
        self.interpolation = np.stack(
            [np.interp(bins, centres, row) for row in np.eye(count)]
        ).astype(np.float32)

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
        bands = [power[:, a:b] for a, b in zip(self.edges[:-1], self.edges[1:], strict=True)]
        loud = np.stack([np.log(band.mean(1)) for band in bands], axis=1)
        typical = np.stack([np.log(band).mean(1) for band in bands], axis=1)
        return 0.25 * (loud + np.minimum(typical + np.euler_gamma, loud))

    def prediction(self, spectrum: np.ndarray) -> np.ndarray:
        """Log amplitude ``(frames,)`` of 5.5 to 7 kHz, which the decoder has."""
        band = (self.frequencies >= 5500) & (self.frequencies < 7000)
        power = np.square(np.abs(spectrum[:, band]), dtype=np.float64).mean(1)
        return 0.5 * np.log(power + 1e-20)


def upsample(waveform: np.ndarray, sample_rate: int, samples: int) -> np.ndarray:
    """A 16 kHz waveform at ``sample_rate``, cut or zero-padded to ``samples``."""
    import soxr

    out = soxr.resample(np.asarray(waveform, np.float32), MODEL_RATE, sample_rate, quality="HQ")
    return np.pad(out, (0, max(0, samples - len(out))))[:samples].astype(np.float32)


def _floor(base: np.ndarray) -> float:
    """Lowest level worth sending, log amplitude: :data:`RANGE_DB` below the loudest bin."""
    return float(np.log(np.abs(base).max() + 1e-12)) - RANGE_DB * np.log(10) / 20


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
    if sample_rate <= MODEL_RATE or not grid.stft.frames(samples):
        return Extension(b"", 0, sample_rate, samples)
    spectrum = grid.stft.analyse(upsample(low, sample_rate, samples))
    base = grid.stft.core(spectrum)
    floor = _floor(base)
    target = np.maximum(grid.envelope(grid.stft.core(grid.stft.analyse(reference))), floor)
    guide = np.maximum(grid.prediction(base), floor)[:, None]
    budget = kbps * 1000 * samples / sample_rate - 8
    best: tuple[float, int, int] | None = None
    for choice, share in enumerate(PREDICTIONS):
        field = target - floor - share * (guide - floor)
        step = grid.coder.finest_step(field, budget)
        if step is None:
            continue
        error = float(np.abs(grid.coder.write(BitWriter(), field, step) - field).mean())
        if best is None or error < best[0]:
            best = (error, choice, step)
    if best is None:
        return Extension(b"\0", 1, sample_rate, samples)

    def extension(carrier: int) -> Extension:
        writer = BitWriter()
        writer.bit(1)
        writer.number(carrier, CARRIER_BITS)
        writer.number(best[1], 2)
        field = target - floor - PREDICTIONS[best[1]] * (guide - floor)
        grid.coder.write(writer, field, best[2])
        return Extension(*writer.finish(), sample_rate, samples)

    candidates = [extension(number) for number in range(len(CARRIERS))]
    distances = [
        _distance(reference, decode_extension(candidate, low, seed), sample_rate)
        for candidate in candidates
    ]
    return candidates[int(np.argmin(distances))]


def _distance(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Log-spectral distance above 8 kHz, dB, floored 80 dB below the reference's peak."""
    stft = Stft(2048, 512)
    above = int(np.ceil(8000 * 2048 / sample_rate))
    first, second = np.abs(stft.analyse(reference)), np.abs(stft.analyse(estimate))
    floor = 1e-4 * first.max() + 1e-12
    ratio = np.maximum(first[:, above:], floor) / np.maximum(second[:, above:], floor)
    return float(np.sqrt(np.square(20 * np.log10(ratio)).mean(1)).mean())


def _read_envelope(reader: BitReader, grid: _Grid, base: np.ndarray) -> np.ndarray:
    floor = _floor(base)
    guide = np.maximum(grid.prediction(base), floor)[:, None]
    share = PREDICTIONS[reader.number(2)]
    envelope = grid.coder.read(reader, len(base)) + floor + share * (guide - floor)
    # Nothing at the floor is meant to sound.
    return np.where(envelope <= floor + 0.2, -50.0, envelope)


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


def _level(grid: _Grid, carrier: np.ndarray) -> np.ndarray:
    """Divide a carrier by its own envelope."""
    full = np.zeros((len(carrier), len(grid.frequencies)), np.complex64)
    full[:, grid.first :] = carrier
    envelope = grid.envelope(full)
    return carrier * np.exp(-np.maximum(envelope, envelope.max() - 12) @ grid.interpolation)


def _calm(high: np.ndarray, grid: _Grid, shrink: float, longer: int, rounds: int) -> np.ndarray:
    """Shrink a waveform's log-magnitude fluctuations around its smooth spectrum."""
    stft = Stft(grid.stft.n_fft * longer, grid.stft.hop * longer)
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
    if copy:
        source = _copy_up(grid, spectrum)
    else:
        count = (len(spectrum) + 1) * grid.stft.hop
        white = np.random.default_rng(seed).standard_normal(count, dtype=np.float32)
        source = grid.stft.analyse(white)[: len(spectrum), grid.first :]
    high = np.zeros_like(spectrum)
    gain = np.exp(grid.stft.spread(envelope) @ grid.interpolation)
    high[:, grid.first :] = _level(grid, source) * gain
    if shrink < 1:
        calm = _calm(grid.stft.synthesise(high, samples), grid, shrink, longer, rounds)
        high = grid.stft.analyse(calm)
    return high


def decode_extension(
    extension: Extension, low: np.ndarray, seed: int = 0, carrier: str | None = None
) -> np.ndarray:
    """Full-band waveform ``(samples,)`` at the extension's rate; ``low`` and ``seed`` as encoded.

    ``carrier``: one of :data:`CARRIERS` in place of the encoder's choice; ``"noise"`` is the plain
    envelope-shaped noise that the others are judged by.
    """
    base = upsample(low, extension.sample_rate, extension.samples)
    if not extension.bits:
        return base
    grid = _Grid(extension.sample_rate)
    spectrum = grid.stft.analyse(base)
    reader = BitReader(extension.data)
    if not reader.bit():
        return base
    chosen = list(CARRIERS)[reader.number(CARRIER_BITS)]
    envelope = _read_envelope(reader, grid, grid.stft.core(spectrum))
    high = _fill(grid, envelope, spectrum, extension.samples, carrier or chosen, seed)
    # At equal power: the two sides are not coherent.
    fade = grid.fade(CROSSOVER).astype(np.float32)
    return grid.stft.synthesise(spectrum * np.sqrt(1 - fade**2) + high * fade, extension.samples)


def oracle_crossover(
    reference: np.ndarray, low: np.ndarray, sample_rate: int, frequency: float = CROSSOVER
) -> np.ndarray:
    """Oracle, not a method: the original itself above ``frequency``, the decoder's below.

    The upper bound of any band extension. Both are cross-faded over :data:`FADE` Hz.
    """
    grid = _Grid(max(sample_rate, 4000))
    stft = grid.stft
    own = upsample(low, sample_rate, len(reference)) if sample_rate != MODEL_RATE else low
    fade = grid.fade(frequency) ** 2
    spectrum = stft.analyse(own) * (1 - fade) + stft.analyse(reference) * fade
    return stft.synthesise(spectrum.astype(np.complex64), len(reference))
