"""The denoiser of latents: AudioLDM2's UNet with prompts and classifier-free guidance."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from audioldm_utils.errors import UserError
from audioldm_utils.model.conditioning import Conditioning, stack


class GuidedUNet:
    """The UNet with its prompts and guidance, as a function ``(x_t, t) -> output``.

    The output is what the scheduler's configuration calls ``prediction_type``. ``calls`` counts
    evaluations of the UNet by clips: with guidance, a batch of 3 adds 6.
    """

    def __init__(
        self, unet: torch.nn.Module, conditioning: Conditioning, guidance: float, grad: bool
    ) -> None:
        if guidance != 1.0 and conditioning.negative is None:
            raise UserError(
                f"guidance {guidance} needs a prompt to lead to: give one, or guidance 1"
            )
        self.unet = unet
        self.guidance = guidance
        self.calls = 0
        self._grad = grad
        # Asking a network for these walks over its parameters: once, not at each step.
        self._device, self._dtype = unet.device, unet.dtype
        self._conditioning = conditioning
        self._ready: tuple[int, bool, tuple[Tensor, Tensor, Tensor]] | None = None

    def _sequences(self, batch: int, both: bool) -> tuple[Tensor, Tensor, Tensor]:
        if self._ready is None or self._ready[:2] != (batch, both):
            wanted = self._conditioning.expand(batch)
            if both:
                wanted = stack([replace(wanted.negative, negative=None), wanted])
            parts = (part.to(self._device, self._dtype) for part in (wanted.generated, wanted.t5))
            self._ready = (batch, both, (*parts, wanted.mask.to(self._device)))
        return self._ready[2]

    def _run(self, x: Tensor, t: int | Tensor, both: bool) -> Tensor:
        generated, t5, mask = self._sequences(len(x), both)
        x = torch.cat([x, x]) if both else x
        if isinstance(t, Tensor) and t.ndim == 1 and both and len(t) > 1:
            t = torch.cat([t, t])
        self.calls += len(x)
        with torch.set_grad_enabled(self._grad):
            output = self.unet(
                x.to(self._device, self._dtype),
                t,
                encoder_hidden_states=generated,
                encoder_hidden_states_1=t5,
                encoder_attention_mask_1=mask,
                return_dict=False,
            )[0]
        return output.float()

    def pair(self, x: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """Output for the negative prompt and for the prompt, each shaped as ``x``."""
        if self._conditioning.negative is None:
            raise UserError("without a prompt there is no pair of outputs: embed a prompt first")
        return tuple(self._run(x, t, both=True).chunk(2))

    def __call__(self, x: Tensor, t: int | Tensor) -> Tensor:
        """The guided output, float32, shaped as ``x``.

        Args:
            x: ``(batch, 8, frames, 16)``, float32; batch a multiple of the prompts.
            t: timestep of the training schedule, 0 to 999: one for all, or ``(batch,)``.
        """
        if self.guidance == 1.0:
            return self._run(x, t, both=False)
        without, towards = self.pair(x, t)
        return without + self.guidance * (towards - without)
