"""Exact denoisers of normal priors, and the plain DDCM loop: theory tested without weights.

For x0 ~ N(0, S) and x_t = sqrt(a) x0 + sqrt(1 - a) e, the posterior mean is
x0hat = sqrt(a) S (a S + (1 - a) I)^-1 x_t; for S = I it is sqrt(a) x_t.
"""

import math

import numpy as np
import torch

from audioldm_utils.ddcm.codebook import start_noise
from audioldm_utils.model.schedule import training_alphas_bar

CONFIG = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "prediction_type": "epsilon",
}
"""The published AudioLDM2 scheduler."""


def oracle(config=CONFIG, covariance=None):
    """A denoiser (x_t (batch, *shape), t) -> output of the configuration's prediction type.

    covariance: (N, N) of the flattened latents; None is the identity.
    """
    curve = training_alphas_bar(config)
    if covariance is not None:
        values, vectors = np.linalg.eigh(covariance)
        values = torch.from_numpy(values).float().clamp(min=0)
        vectors = torch.from_numpy(vectors).float()

    def denoise(x_t, t):
        a = float(curve[int(t)])
        if covariance is None:
            x0 = math.sqrt(a) * x_t
        else:
            gain = math.sqrt(a) * values / (a * values + 1 - a)
            x0 = ((x_t.flatten(1) @ vectors) * gain @ vectors.T).reshape(x_t.shape)
        epsilon = (x_t - math.sqrt(a) * x0) / math.sqrt(1 - a)
        kind = config["prediction_type"]
        if kind == "epsilon":
            return epsilon
        return x0 if kind == "sample" else math.sqrt(a) * epsilon - math.sqrt(1 - a) * x0

    return denoise


def run(schedule, book, denoise, x0=None, *, atoms=1, batch=1, choices=None, seed=0, **selection):
    """The plain loop: towards x0 if given, else by the given choices, else at random.

    Returns (result, list of choices).
    """
    batch = batch if x0 is None else len(x0)
    batch = batch if choices is None else len(choices[0])
    x = start_noise(range(seed, seed + batch), book.shape)
    made = []
    for i, t in enumerate(schedule.timesteps):
        output = denoise(x, t)
        if i == schedule.noisy_steps:
            return schedule.step(i, x, output), made
        if choices is not None:
            choice = choices[i]
        elif x0 is not None:
            residual = x0 - schedule.predict_x0(i, x, output)
            choice = book.choose(i, residual, atoms, **selection)
        else:
            choice = book.random_choice(i, range(batch), atoms)
        made.append(choice)
        x = schedule.step(i, x, output, book.noise(i, choice))
    raise AssertionError("a schedule ends with its last step")


def correlation(a, b):
    """Cosine of each clip of two batches: list of floats."""
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).tolist()


def white(batch, shape, seed=0):
    """Clips from the white prior."""
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))
