"""A diffusers scheduler whose noise comes from a codebook.

``pipe.scheduler = DDCMScheduler.from_config(pipe.scheduler.config, bases=4)`` makes
``pipe(prompt)`` text-to-audio DDCM: random codes, recorded in ``scheduler.codes``, from which
the same latents can be made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin

from audioldm_utils.ddcm import codebook as codebooks
from audioldm_utils.ddcm.core import Codes, derived_seed
from audioldm_utils.ddcm.windows import unfold
from audioldm_utils.errors import UserError
from audioldm_utils.model.schedule import Schedule, training_alphas_bar

# What a configuration of diffusers calls the placements that both know.
_SPACINGS = {"leading": "uniform", "trailing": "trailing", "linspace": "linspace"}
Generators = torch.Generator | list[torch.Generator] | None


class DDCMScheduler(SchedulerMixin, ConfigMixin):
    """DDCM's reverse step as diffusers calls it.

    Takes the configuration of any epsilon, v or sample prediction scheduler. The choices are
    drawn from the pipeline's ``generator`` (a list of them: one a sample), or from
    ``choice_seed``; after ``replay(codes)`` they are those given. A run may begin in the middle,
    as SDEdit does: at the step of ``set_begin_index``, or else at the first timestep given.

    Attributes:
        timesteps: what the network is called with.
        start: where the last run began, x_T or later; give it to the pipeline as ``latents`` to
            replay.
        begin_index: step that the next run begins with; None: that of the first timestep given.
        step_index: step that comes next; None before a run has begun.
        betas: of every training timestep, float32, as are ``alphas`` and ``alphas_cumprod``.
    """

    order = 1
    # Whose other settings from_config may drop without a warning.
    _compatibles: ClassVar = [scheduler.name for scheduler in KarrasDiffusionSchedulers]

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: list[float] | None = None,
        prediction_type: str = "epsilon",
        steps_offset: int = 0,
        rescale_betas_zero_snr: bool = False,
        clip_sample: bool = False,
        thresholding: bool = False,
        timestep_spacing: str = "leading",
        placement: str | None = None,
        stop: float | None = None,
        power: float = 1.0,
        eta: float = 1.0,
        codebook: str = "cyclic",
        codebook_seed: int = 0,
        size: int | None = None,
        bases: int | None = None,
        atoms: int = 1,
        segment: int = 0,
        choice_seed: int = 0,
    ) -> None:
        """Store the configuration, as ``Schedule.from_config`` and ``codebook.make`` read it.

        Args:
            num_train_timesteps: as in diffusers, like the rest down to ``rescale_betas_zero_snr``.
            clip_sample: must be false, as ``thresholding``: a clipped value cannot be led.
            timestep_spacing: "leading" (here with real-valued spacing: ``uniform``),
                "trailing" or "linspace"; where the steps lie unless ``placement`` says so.
            placement: one of ``schedule.PLACEMENTS``, with its ``stop`` and ``power``.
            eta: share of the DDPM noise, 0 to 1.
            codebook: its name, with ``codebook_seed``.
            size: atoms of the codebook, unless it is cyclic; ``bases``: of a cyclic one.
            atoms: a step.
            segment: latent frames that share a choice; 0: all.
            choice_seed: of random choices where the pipeline gives no generator.
        """
        if clip_sample or thresholding:
            raise UserError(
                "this scheduler configuration clips the denoised value (clip_sample or "
                "thresholding), which DDCM cannot do; set both to false"
            )
        if placement is None and timestep_spacing not in _SPACINGS:
            raise UserError(
                f"timestep_spacing {timestep_spacing!r} is not one of {', '.join(_SPACINGS)}; "
                "set it to one of them, or give a placement"
            )
        bar = torch.from_numpy(training_alphas_bar(self.config))
        alphas = bar / torch.cat([bar.new_ones(1), bar[:-1]])
        self.alphas_cumprod = bar.float()
        self.alphas, self.betas = alphas.float(), (1 - alphas).float()
        self.init_noise_sigma = 1.0
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1)
        self.num_inference_steps: int | None = None
        self.schedule: Schedule | None = None
        self._given: tuple[torch.Tensor, ...] | None = None
        self._reset()

    def _reset(self) -> None:
        self.begin_index: int | None = None
        self.step_index: int | None = None
        self.start: torch.Tensor | None = None
        self._latents: torch.Tensor | None = None
        self._choices: list[torch.Tensor] = []

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin the next run with this step, 0 to the last; ValueError once a run has begun."""
        if self.schedule is None:
            raise ValueError("call set_timesteps before set_begin_index")
        if not 0 <= begin_index < len(self.schedule):
            raise ValueError(f"step {begin_index} is none of 0 to {len(self.schedule) - 1}")
        if self.step_index is not None:
            raise ValueError("this run has begun: call set_timesteps before set_begin_index")
        self.begin_index = int(begin_index)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[int] | None = None,
    ) -> None:
        """Lay out ``num_inference_steps`` steps, or the given falling ``timesteps``.

        Raises:
            ValueError: both are given, or what is given cannot be laid out.
        """
        if timesteps is not None and num_inference_steps is not None:
            raise ValueError("give num_inference_steps or timesteps, not both")
        placement = self.config.placement or _SPACINGS[self.config.timestep_spacing]
        self.schedule = Schedule.from_config(
            self.config,
            num_inference_steps,
            placement=placement if timesteps is None else list(timesteps),
            stop=self.config.stop,
            power=self.config.power,
            eta=self.config.eta,
        )
        self.num_inference_steps = len(self.schedule)
        self.timesteps = torch.tensor(self.schedule.timesteps, device=device)
        self._reset()

    def previous_timestep(self, timestep: int | torch.Tensor) -> int:
        """The timestep called after this one; -1 after the last; ValueError if it is none."""
        found = self.timesteps.tolist()
        if int(timestep) not in found:
            raise ValueError(f"timestep {int(timestep)} is none of scheduler.timesteps")
        return [*found, -1][found.index(int(timestep)) + 1]

    def scale_model_input(
        self, sample: torch.Tensor, timestep: int | torch.Tensor | None = None
    ) -> torch.Tensor:
        """The sample as it is."""
        return sample

    def replay(self, codes: Codes | None) -> None:
        """Take the choices of ``codes``, one a noisy step, in the next runs; None: draw again."""
        self._given = None if codes is None else codes.choices

    @property
    def codes(self) -> Codes:
        """Choices and final latents of the run that has ended."""
        if self._latents is None:
            raise ValueError("no run has ended yet: call the pipeline first")
        return Codes(tuple(self._choices), tuple(self._latents.shape[1:]), self._latents)

    def make_codebook(self, shape: Sequence[int]) -> codebooks.Codebook:
        """The configured codebook for latents of ``shape`` (8, frames, 16)."""
        channels, frames, width = shape
        segment = self.config.segment or frames
        option = "bases" if self.config.codebook == "cyclic" else "size"
        options = {} if self.config[option] is None else {option: self.config[option]}
        shape = (channels, segment, width)
        return codebooks.make(self.config.codebook, shape, self.config.codebook_seed, **options)

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """One reverse step with noise from the codebook.

        Args:
            model_output: of the network, guidance applied.
            timestep: must be the next of ``timesteps`` (ValueError).
            sample: x_t, (batch, 8, frames, 16).
            generator: seeds the choices; read at the first step only.
            return_dict: False gives (previous sample, denoised value).
        """
        listed = list(generator) if isinstance(generator, (list, tuple)) else [generator]
        if generator is not None and not all(isinstance(g, torch.Generator) for g in listed):
            raise ValueError(
                f"generator is {generator!r}, not a torch.Generator; DDCM's eta is no argument "
                "of a step: give it to DDCMScheduler.from_config(config, eta=...)"
            )
        i = self._next_step(int(timestep))
        if self.step_index is None:
            self._begin(i, sample, generator)
        noise = None
        if i < self.schedule.noisy_steps:
            if self._given is None:
                choice = self._codebook.random_choice(i, self._seeds, self.config.atoms)
            else:
                choice = self._given[len(self._choices)]
            self._choices.append(choice)
            noise = unfold(self._codebook.noise(i, choice), self._count).to(sample)
        before = self.schedule.step(i, sample, model_output, noise)
        self.step_index = i + 1
        if self.step_index == len(self.schedule):
            self._latents = before
        x0_hat = self.schedule.predict_x0(i, sample, model_output)
        if not return_dict:
            return before, x0_hat
        return DDIMSchedulerOutput(prev_sample=before, pred_original_sample=x0_hat)

    def _next_step(self, timestep: int) -> int:
        if self.schedule is None:
            raise ValueError("call set_timesteps before step")
        steps = self.schedule.timesteps
        wanted = self.begin_index if self.step_index is None else self.step_index
        if wanted is None and timestep in steps:
            return steps.index(timestep)
        if wanted is None or wanted >= len(steps) or timestep != steps[wanted]:
            raise ValueError(f"timestep {timestep} is not the one after {wanted or 0} steps")
        return wanted

    def _begin(self, i: int, sample: torch.Tensor, generator: Generators) -> None:
        """Get ready for a run from step ``i`` on."""
        wanted = self.schedule.noisy_steps - i
        if self._given is not None and len(self._given) != wanted:
            raise ValueError(
                f"codes of {len(self._given)} steps are replayed in a run of {wanted} with noise"
            )
        self.start, batch = sample, len(sample)
        self._codebook = self.make_codebook(sample.shape[1:])
        self._count = sample.shape[2] // self._codebook.shape[1]

        def drawn(one: torch.Generator, count: int) -> list[int]:
            return torch.randint(2**62, (count,), generator=one, device=one.device).tolist()

        if generator is None:
            clips = [derived_seed(self.config.choice_seed, b) for b in range(batch)]
        elif isinstance(generator, torch.Generator):
            clips = drawn(generator, batch)
        elif len(generator) != batch:
            raise ValueError(f"{len(generator)} generators for a batch of {batch}")
        else:
            clips = [seed for one in generator for seed in drawn(one, 1)]
        # One seed for each segment of each sample.
        self._seeds = [derived_seed(seed, p, 0) for seed in clips for p in range(self._count)]

    def add_noise(
        self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Forward process: sqrt(abar) x_0 + sqrt(1 - abar) noise, a timestep a sample."""
        bar = self.alphas_cumprod.to(original_samples)[timesteps.to(original_samples.device)]
        bar = bar.reshape(-1, *[1] * (original_samples.ndim - 1))
        return bar.sqrt() * original_samples + (1 - bar).sqrt() * noise

    def __len__(self) -> int:
        return self.config.num_train_timesteps
