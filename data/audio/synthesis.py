"""The synthesised clips: weather, a clock, footsteps and test signals.

Each is a sum of small physical events or shaped noise, drawn from its own seed; nothing but
NumPy and SciPy is used, so they come out the same anywhere.
"""

from __future__ import annotations

import numpy as np
from scipy import signal


def generator(seed: int) -> np.random.Generator:
    """The source of chance of one clip."""
    return np.random.Generator(np.random.PCG64(seed))


def slow_curve(draw: np.random.Generator, samples: int, rate: int, hertz: float) -> np.ndarray:
    """A smooth random curve, mean 0 and deviation 1, varying about ``hertz`` times a second."""
    knots = max(4, int(np.ceil(samples / rate * hertz * 2)) + 3)
    curve = np.interp(np.linspace(0, knots - 1, samples), np.arange(knots), draw.normal(size=knots))
    width = max(1, int(rate / hertz / 4))
    smooth = signal.fftconvolve(curve, np.hanning(width + 2) / np.hanning(width + 2).sum(), "same")
    return (smooth - smooth.mean()) / smooth.std()


def coloured_noise(
    draw: np.random.Generator, samples: int, rate: int, hertz: list[float], decibels: list[float]
) -> np.ndarray:
    """Normal noise whose spectrum runs through the given points (log frequency, dB), RMS 1."""
    spectrum = np.fft.rfft(draw.normal(size=samples))
    axis = np.maximum(np.fft.rfftfreq(samples, 1 / rate), 1.0)
    spectrum *= 10 ** (np.interp(np.log(axis), np.log(hertz), decibels) / 20)
    noise = np.fft.irfft(spectrum, samples)
    return noise / np.sqrt(np.mean(noise**2))


def damped_modes(
    draw: np.random.Generator, rate: int, hertz: list[float], seconds: list[float]
) -> np.ndarray:
    """A struck body: decaying sines, each ``seconds`` to fall by 60 dB, levels drawn."""
    time = np.arange(int(rate * max(seconds))) / rate
    struck = np.zeros_like(time)
    for frequency, decay in zip(hertz, seconds, strict=True):
        level = draw.uniform(0.4, 1.0)
        struck += level * np.exp(-6.91 * time / decay) * np.sin(2 * np.pi * frequency * time)
    return struck


def add(target: np.ndarray, at: int, event: np.ndarray) -> None:
    """Add an event to a clip in place, cut where the clip ends."""
    length = min(len(event), len(target) - at)
    target[at : at + length] += event[:length]


def in_room(dry: np.ndarray, rate: int, seed: int, seconds: float, wet: float) -> np.ndarray:
    """A clip in a small room: some early reflections and a diffuse, darkening tail."""
    draw = generator(seed)
    tail = draw.normal(size=int(seconds * rate))
    tail *= np.exp(-6.91 * np.arange(len(tail)) / len(tail))
    tail = 0.6 * tail + 0.4 * signal.lfilter([0.25], [1, -0.75], tail)
    tail[: int(0.004 * rate)] = 0
    tail /= np.sqrt(np.sum(tail**2))
    for delay in draw.uniform(0.004, 0.03, 6):
        tail[int(delay * rate)] += draw.uniform(0.2, 0.5)
    return dry + wet * signal.fftconvolve(dry, tail)[: len(dry)]


def rain(rate: int) -> np.ndarray:
    """Steady rain on leaves and puddles: thousands of drops over a broad hiss."""
    draw, samples = generator(21), int(6 * rate)
    hiss = coloured_noise(
        draw,
        samples,
        rate,
        [50, 300, 1500, 6000, 12000, 20000, 24000],
        [-40, -16, -6, 0, -4, -12, -18],
    )
    drops = np.zeros(samples)
    for start in np.sort(draw.integers(0, samples, 6000)):
        # Sizes follow a power law: many faint drops, few loud ones.
        level = 0.12 * draw.pareto(2.2)
        length = int(rate * draw.uniform(0.0008, 0.005))
        splash = draw.normal(size=length) * np.exp(-6.0 * np.arange(length) / length)
        edge = draw.uniform(0.0, 0.8)
        add(drops, start, level * signal.lfilter([1, -edge], [1], splash))
    for start in draw.integers(0, samples, 260):
        # A bubble under a drop rings at Minnaert's frequency, a few kilohertz.
        frequency, decay = draw.uniform(900, 6000), draw.uniform(0.006, 0.03)
        ring = damped_modes(draw, rate, [frequency], [decay])
        add(drops, start, 0.5 * draw.pareto(3.0) * ring)
    drops = np.clip(drops, -6, 6)
    return (hiss + drops) * (1 + 0.12 * slow_curve(draw, samples, rate, 0.7))


def wind(rate: int) -> np.ndarray:
    """Gusts: a low roar, whistling that rises with the gust, and rustling leaves."""
    draw, samples = generator(22), int(7 * rate)
    gust = np.exp(0.55 * slow_curve(draw, samples, rate, 0.5))
    flutter = 1 + 0.25 * slow_curve(draw, samples, rate, 6)
    roar = coloured_noise(draw, samples, rate, [20, 80, 300, 1200, 24000], [-6, 0, -8, -26, -70])
    leaves = coloured_noise(
        draw, samples, rate, [200, 2000, 5000, 12000, 24000], [-45, -6, 0, -4, -16]
    )
    clip = gust * flutter * roar + 0.10 * gust**1.8 * leaves * (
        1 + 0.4 * slow_curve(draw, samples, rate, 11)
    )
    # Whistling: noise through a resonance that follows the gust, in blocks that overlap.
    source, whistle = draw.normal(size=samples), np.zeros(samples)
    block = int(0.08 * rate)
    window = signal.windows.hann(2 * block, sym=False)
    for start in range(0, samples - 2 * block, block):
        strength = gust[start + block]
        poles, zeros = signal.iirpeak(280 + 330 * strength, 9, fs=rate)
        lead = max(0, start - 2 * block)  # lets the resonance settle before it is heard
        heard = signal.lfilter(poles, zeros, source[lead : start + 2 * block])[-2 * block :]
        whistle[start : start + 2 * block] += window * strength**1.5 * heard
    return clip + 2.5 * whistle


def clock(rate: int) -> np.ndarray:
    """A mantel clock, two beats a second: tick and tock differ, the room answers softly."""
    draw, samples = generator(23), int(6 * rate)
    clip = np.zeros(samples)
    bodies = {
        0: [640, 1480, 2900, 4350, 6700, 9100, 12400, 15800],
        1: [560, 1290, 2480, 3900, 6100, 8300, 11300, 14900],
    }
    for beat in range(12):
        start = int((0.12 + 0.5 * beat) * rate)
        body = [frequency * draw.uniform(0.997, 1.003) for frequency in bodies[beat % 2]]
        decays = [0.09, 0.07, 0.05, 0.04, 0.03, 0.022, 0.016, 0.012]
        # The escapement strikes three times: unlock, impulse, drop.
        for delay, level in ((0.0, 0.45), (0.0055, 1.0), (0.0125, 0.6)):
            at = start + int((delay + draw.uniform(-3e-4, 3e-4)) * rate)
            struck = damped_modes(draw, rate, body, decays)
            length = int(0.0012 * rate)
            contact = draw.normal(size=length) * np.exp(-5 * np.arange(length) / length)
            add(
                clip, at, level * (0.35 * struck + 0.8 * np.pad(contact, (0, len(struck) - length)))
            )
    room = in_room(clip, rate, 24, 0.35, 0.25)
    floor = coloured_noise(
        draw, samples, rate, [30, 100, 1000, 8000, 24000], [0, -4, -20, -34, -44]
    )
    return room + 0.002 * np.abs(room).max() * floor


def footsteps(rate: int) -> np.ndarray:
    """Somebody walks on gravel: heel, grains that crunch under the sole, and the toe."""
    draw, samples = generator(25), int(6 * rate)
    clip, at = np.zeros(samples), 0.15
    while at < 5.6:
        start, force = int(at * rate), draw.uniform(0.75, 1.0)
        heel = damped_modes(draw, rate, [62, 95, 148, 230], [0.11, 0.09, 0.06, 0.04])
        add(clip, start, 0.9 * force * heel)
        # Grains: many under the heel, again more as the weight rolls over to the toe.
        times = np.concatenate(
            [draw.exponential(0.018, 160), 0.12 + np.abs(draw.normal(0.05, 0.04, 260))]
        )
        for time in times:
            length = int(rate * draw.uniform(0.0007, 0.006))
            grain = draw.normal(size=length) * np.exp(-5 * np.arange(length) / length)
            low = draw.uniform(500, 5000)
            band = signal.butter(1, [low, min(low * 4, 22000)], "bandpass", fs=rate, output="sos")
            level = force * min(0.22 * draw.pareto(2.0), 1.6)
            add(clip, start + int(time * rate), level * signal.sosfilt(band, grain))
        at += 0.56 + draw.uniform(-0.02, 0.02)
    clip = in_room(clip, rate, 26, 0.2, 0.08)
    outdoors = coloured_noise(
        draw, samples, rate, [30, 200, 2000, 8000, 24000], [0, -8, -20, -28, -38]
    )
    return clip + 0.003 * np.abs(clip).max() * outdoors


def log_sweep(rate: int) -> np.ndarray:
    """A sine whose frequency grows from 20 Hz to half the rate, equally long in each octave."""
    time = np.arange(int(6 * rate)) / rate
    return signal.chirp(time, 20, 6, rate / 2, method="logarithmic", phi=-90)


def white_noise(rate: int) -> np.ndarray:
    """Uniformly distributed independent samples: all frequencies alike, peaks bounded."""
    return generator(27).uniform(-1, 1, int(4 * rate))


def click_train(rate: int) -> np.ndarray:
    """Single-sample clicks, ten a second."""
    clip = np.zeros(int(4.2 * rate))
    clip[rate // 20 :: rate // 10] = 1.0
    return clip


def sine_chord(rate: int) -> np.ndarray:
    """Six sines from 220 Hz to 12 kHz, each starting 0.4 s after the one below it."""
    time = np.arange(int(5 * rate)) / rate
    clip = np.zeros_like(time)
    for index, frequency in enumerate((220.0, 554.4, 1318.5, 2960.0, 6271.9, 12000.0)):
        onset = np.clip((time - 0.4 * index) / 0.02, 0, 1)
        clip += onset * np.sin(2 * np.pi * frequency * time)
    return clip
