r"""The reverse diffusion step with its noise supplied, and where its steps lie.

Symbols (DDIM, arXiv 2010.02502; DDPM, arXiv 2006.11239; DDCM, arXiv 2502.01189):

=================  ==========================================================
``alphas_bar[i]``  alpha-bar_t at ``timesteps[i]``
``next_bar[i]``    alpha-bar of the *true* next timestep; 1 after the last step
``sigma(i)``       sigma_t of DDIM equation 16, with eta squared in the variance
``mean(i, ...)``   mu_t, DDIM equation 12 without its noise term
``noise``          the codebook's atom, C_t(k) in DDCM
=================  ==========================================================

Steps are counted from 0 (noisiest) to ``steps`` - 1. The last one jumps to the denoised
value and adds no noise, so ``steps`` network calls take ``steps`` - 1 choices of noise.

Where public code differs: the next timestep is the one that the denoiser will really be called
with, not ``t - 1000 // steps``, which misses it where ``steps`` does not divide 1000; and the
variance carries eta squared, so that a partial eta keeps the marginal variance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from audioldm_utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

PLACEMENTS = ("uniform", "trailing", "linspace", "alpha-bar", "log-snr")
"""Rules for where the steps lie.

``uniform``: what diffusers calls leading, with real-valued spacing. ``trailing``, ``linspace``:
diffusers' other two. ``alpha-bar``: uniform in alpha-bar ** power from the noisiest timestep to
``stop``. ``log-snr``: uniform in log(alpha-bar / (1 - alpha-bar)) from there to ``stop``.
"""
_STOP = 0.97
_PREDICTIONS = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Schedule:
    """Timesteps of one reverse process and the arithmetic of each step.

    Coefficients are computed in float64 and applied to tensors in the tensors' own type, element
    by element, so that a batch never changes a clip's result.
    """

    timesteps: tuple[int, ...]  # descending; what the denoiser is called with
    alphas_bar: tuple[float, ...]
    eta: float = 1.0
    prediction: str = "epsilon"

    @classmethod
    def from_config(
        cls,
        scheduler_config: Mapping[str, Any],
        steps: int | None = None,
        *,
        placement: str | Sequence[int] = "uniform",
        stop: float | None = None,
        power: float = 1.0,
        eta: float = 1.0,
    ) -> Schedule:
        """Build from a diffusers scheduler configuration.

        Args:
            steps: network calls, 1 to the training timesteps; may be None with given timesteps.
            placement: one of `PLACEMENTS`, or the descending timesteps themselves.
            stop: alpha-bar of the last timestep for ``alpha-bar`` and ``log-snr``, in (0, 1);
                None is 0.97.
            power: exponent of ``alpha-bar``, positive; below 1 puts more steps into the noise.
            eta: 0 (deterministic, DDIM) to 1 (DDPM).

        Raises:
            UserError: an argument out of its range, or a configuration that is not understood.
        """
        curve = training_alphas_bar(scheduler_config)
        prediction = scheduler_config.get("prediction_type", "epsilon")
        if prediction not in _PREDICTIONS:
            listed = ", ".join(_PREDICTIONS)
            raise UserError(f"scheduler prediction_type {prediction!r} is not one of {listed}.")
        if not 0 <= eta <= 1:
            raise UserError(f"eta must lie between 0 and 1, not {eta}.")
        if isinstance(placement, str):
            if steps is None:
                raise UserError("give the number of steps, or the timesteps themselves.")
            offset = int(scheduler_config.get("steps_offset", 0))
            timesteps = place(curve, steps, placement, stop, power, offset)
        else:
            timesteps = _checked_timesteps(placement, steps, len(curve))
        if prediction == "epsilon" and curve[timesteps[0]] < 1e-12:
            raise UserError(
                "this scheduler ends in pure noise (zero terminal SNR), from which epsilon "
                "prediction cannot start; use a v-prediction model or lower timesteps."
            )
        return cls(timesteps, tuple(float(curve[t]) for t in timesteps), float(eta), prediction)

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def next_bar(self) -> tuple[float, ...]:
        """Alpha-bar after each step: that of the true next timestep, and 1 at the end."""
        return (*self.alphas_bar[1:], 1.0)

    @property
    def noisy_steps(self) -> int:
        """Steps that add noise, hence take a choice: all but the last."""
        return len(self.timesteps) - 1

    def sigma(self, i: int) -> float:
        """Standard deviation of the noise that step ``i`` adds (DDIM equation 16); 0 at the end.

        sigma^2 = eta^2 (1 - next) / (1 - now) (1 - now / next).
        """
        now, after = self.alphas_bar[i], self.next_bar[i]
        return self.eta * math.sqrt((1 - after) / (1 - now) * (1 - now / after))

    def predict_x0(self, i: int, x_t: Tensor, output: Tensor) -> Tensor:
        """The denoised value that the network's output stands for; any shape."""
        now = self.alphas_bar[i]
        if self.prediction == "epsilon":
            return (x_t - math.sqrt(1 - now) * output) / math.sqrt(now)
        if self.prediction == "v_prediction":
            return math.sqrt(now) * x_t - math.sqrt(1 - now) * output
        return output

    def predict_noise(self, i: int, x_t: Tensor, output: Tensor) -> Tensor:
        """The noise (epsilon) that the network's output stands for; any shape."""
        now = self.alphas_bar[i]
        if self.prediction == "epsilon":
            return output
        if self.prediction == "v_prediction":
            return math.sqrt(now) * output + math.sqrt(1 - now) * x_t
        return (x_t - math.sqrt(now) * output) / math.sqrt(1 - now)

    def mean(self, i: int, x_t: Tensor, output: Tensor) -> Tensor:
        """x_{t-1} without its noise: sqrt(next) x0 + sqrt(1 - next - sigma^2) epsilon.

        The last step returns the denoised value itself.
        """
        x0 = self.predict_x0(i, x_t, output)
        after = self.next_bar[i]
        if after == 1.0:
            return x0
        direction = math.sqrt(max(1 - after - self.sigma(i) ** 2, 0.0))
        return math.sqrt(after) * x0 + direction * self.predict_noise(i, x_t, output)

    def step(self, i: int, x_t: Tensor, output: Tensor, noise: Tensor | None = None) -> Tensor:
        """One reverse step, x_t to x_{t-1}, all of one shape.

        Args:
            i: step number, 0 to ``len(self)`` - 1.
            output: the network's, at ``timesteps[i]``.
            noise: of unit variance; may be None (else a ValueError) where sigma is 0.
        """
        mean, sigma = self.mean(i, x_t, output), self.sigma(i)
        if sigma == 0.0:
            return mean
        if noise is None:
            raise ValueError(f"step {i} of {len(self)} adds noise of std {sigma:.4f}; none given")
        return mean + sigma * noise


def training_alphas_bar(scheduler_config: Mapping[str, Any]) -> np.ndarray:
    """Alpha-bar of every training timestep, float64, from a diffusers configuration."""
    steps = int(scheduler_config.get("num_train_timesteps", 1000))
    kind = scheduler_config.get("beta_schedule", "linear")
    first = float(scheduler_config.get("beta_start", 0.0001))
    last = float(scheduler_config.get("beta_end", 0.02))
    if scheduler_config.get("trained_betas") is not None:
        betas = np.asarray(scheduler_config["trained_betas"], dtype=np.float64)
    elif kind == "linear":
        betas = np.linspace(first, last, steps)
    elif kind == "scaled_linear":
        betas = np.linspace(math.sqrt(first), math.sqrt(last), steps) ** 2
    elif kind == "squaredcos_cap_v2":
        curve = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        betas = np.array([min(1 - after / now, 0.999) for now, after in pairwise(curve)])
    else:
        raise UserError(
            f"scheduler beta_schedule {kind!r} is not known; known are linear, scaled_linear, "
            "squaredcos_cap_v2 and trained_betas."
        )
    alphas_bar = np.cumprod(1 - betas)
    if scheduler_config.get("rescale_betas_zero_snr", False):
        root = np.sqrt(alphas_bar)
        alphas_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return alphas_bar


def place(
    curve: np.ndarray,
    steps: int,
    placement: str = "uniform",
    stop: float | None = None,
    power: float = 1.0,
    offset: int = 0,
) -> tuple[int, ...]:
    """Descending, distinct timesteps by one of the rules in `PLACEMENTS`.

    Args:
        curve: alpha-bar of every training timestep.
        steps: how many, 1 to ``len(curve)``.
        stop, power: as in `Schedule.from_config`.
        offset: ``steps_offset`` of the configuration, for ``uniform``.
    """
    total = len(curve)
    if not 1 <= steps <= total:
        raise UserError(f"steps must lie between 1 and {total}, not {steps}.")
    if placement == "uniform":
        first = np.round(np.arange(steps) * (total / steps)).astype(int)
        wanted = (first + min(offset, total - 1 - int(first[-1])))[::-1]
    elif placement == "trailing":
        wanted = np.round(total - np.arange(steps) * (total / steps)).astype(int) - 1
    elif placement == "linspace":
        wanted = np.round(np.linspace(0, total - 1, steps)).astype(int)[::-1]
    elif placement in ("alpha-bar", "log-snr"):
        stop = _STOP if stop is None else stop
        if not curve[-1] < stop < 1:
            raise UserError(
                f"stop is an alpha-bar: it must lie between {curve[-1]:.2g} and 1, not {stop}."
            )
        if placement == "alpha-bar":
            if not power > 0:
                raise UserError(f"power must be positive, not {power}.")
            levels = np.linspace(curve[-1] ** power, stop**power, steps) ** (1 / power)
        else:
            start = max(curve[-1], 1e-9)
            odds = np.linspace(math.log(start / (1 - start)), math.log(stop / (1 - stop)), steps)
            levels = 1 / (1 + np.exp(-odds))
        wanted = np.array([int(np.argmin(np.abs(curve - level))) for level in levels])
    else:
        raise UserError(f"placement {placement!r} is not one of {', '.join(PLACEMENTS)}.")
    # The nearest that fall strictly and end at 0 or above.
    order = np.arange(steps)
    falling = np.minimum.accumulate(wanted + order) - order
    return tuple(int(t) for t in np.maximum(falling, order[::-1]))


def _checked_timesteps(given: Sequence[int], steps: int | None, total: int) -> tuple[int, ...]:
    timesteps = tuple(int(t) for t in given)
    if not timesteps:
        raise UserError("the given timesteps are empty.")
    if steps is not None and steps != len(timesteps):
        raise UserError(f"{len(timesteps)} timesteps were given, but steps is {steps}.")
    falling = all(a > b for a, b in pairwise(timesteps))
    if not falling or timesteps[0] >= total or timesteps[-1] < 0:
        raise UserError(f"timesteps must fall strictly within {total - 1} to 0.")
    return timesteps
