"""The best linear denoiser of latents: what a network must beat to be worth its calls.

For x_t = sqrt(a) x_0 + sqrt(1 - a) e with stationary normal x_0 of mean m and covariance S,
the best estimate of e from ``patch`` neighbouring latent frames is
sqrt(1 - a) (a S + (1 - a) I)^-1 (x_t - sqrt(a) m) (the Wiener filter). No linear function of
these frames does better. It is fitted on train latents and holds for any noise level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from audioldm_utils.errors import UserError
from audioldm_utils.model.schedule import training_alphas_bar

#: Latent frames that an estimate sees.
PATCH = 9


class LinearDenoiser:
    """Linear estimate of the noise, from the patch of frames around each frame.

    Frames at the edges are estimated from the first or the last whole patch.

    Args:
        mean: of a latent frame, ``(values,)`` with 8 channels x 16 places.
        lags: ``(patch, values, values)``: covariance of a frame with the one ``k`` earlier.
    """

    def __init__(self, mean: Tensor, lags: Tensor) -> None:
        if lags.ndim != 3 or lags.shape[1:] != (len(mean), len(mean)):
            raise UserError(f"lags of shape {tuple(lags.shape)} do not fit {len(mean)} values.")
        self.mean = mean.double()
        self.lags = lags.double()
        self.patch = len(lags)

    @classmethod
    def fit(cls, latents: Sequence[Tensor], patch: int = PATCH) -> LinearDenoiser:
        """Fit on latents, each ``(channels, frames, places)`` of any length.

        The covariances divide by the number of all frames whatever the lag, which keeps the
        covariance of a patch positive.
        """
        if not latents:
            raise UserError("there are no latents to fit a linear denoiser on.")
        rows = [_rows(z).double() for z in latents]
        total = sum(len(r) for r in rows)
        mean = torch.stack([r.sum(0) for r in rows]).sum(0) / total
        lags = []
        for k in range(patch):
            lags.append(sum((r[k:] - mean).T @ (r[: len(r) - k] - mean) for r in rows) / total)
        return cls(mean, torch.stack(lags))

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues and eigenvectors of a patch's covariance."""
        blocks = [
            [self.lags[i - j] if i >= j else self.lags[j - i].T for j in range(self.patch)]
            for i in range(self.patch)
        ]
        whole = torch.cat([torch.cat(row, 1) for row in blocks])
        values, vectors = torch.linalg.eigh((whole + whole.T) / 2)
        return values.clamp(min=0).float(), vectors.float()

    def noise(self, x_t: Tensor, a: float) -> Tensor:
        """Estimate of the noise in ``x_t`` ``(channels, frames, places)`` at alpha-bar ``a``.

        Raises:
            ValueError: fewer frames than a patch has.
        """
        channels, frames, places = x_t.shape
        if frames < self.patch:
            raise ValueError(f"{frames} latent frames; a patch has {self.patch}")
        width, half = len(self.mean), self.patch // 2
        values, vectors = self._spectrum
        shrink = (1 - a) ** 0.5 / (a * values + 1 - a)
        rows = _rows(x_t).float() - a**0.5 * self.mean.float()
        patches = rows.unfold(0, self.patch, 1).permute(0, 2, 1).reshape(-1, self.patch * width)
        along = (patches @ vectors) * shrink
        middle = along @ vectors[half * width : (half + 1) * width].T
        edges = (along[[0, -1]] @ vectors.T).reshape(2, self.patch, width)
        whole = torch.cat([edges[0, :half], middle, edges[1, half + 1 :]])
        return whole.reshape(frames, channels, places).permute(1, 0, 2).to(x_t)

    def noise_error(self, a: float) -> float:
        """Mean squared error of :meth:`noise` per value, for latents of this mean and covariance.

        Along an eigenvector of eigenvalue l it is a l / (a l + 1 - a) at alpha-bar a.
        """
        width = len(self.mean)
        values, vectors = self._spectrum
        middle = vectors[self.patch // 2 * width : (self.patch // 2 + 1) * width]
        return float((middle.square() @ (a * values / (a * values + 1 - a))).mean())

    def denoiser(self, scheduler_config: Mapping[str, Any]) -> Any:
        """As a network: ``(x_t (batch, 8, frames, 16), t) -> output`` of this configuration."""
        curve = training_alphas_bar(scheduler_config)
        kind = scheduler_config.get("prediction_type", "epsilon")

        def output(x: Tensor, t: int) -> Tensor:
            a = float(curve[t])
            noise = torch.stack([self.noise(item, a) for item in x])
            if kind == "epsilon":
                return noise
            x0 = (x - (1 - a) ** 0.5 * noise) / a**0.5
            return x0 if kind == "sample" else a**0.5 * noise - (1 - a) ** 0.5 * x0

        return output


def _rows(z: Tensor) -> Tensor:
    """``(channels, frames, places)`` as ``(frames, channels * places)``."""
    return z.permute(1, 0, 2).reshape(z.shape[1], -1)
