"""One training loop for every component: time-budgeted, resumable, averaged, logged.

The learning rate follows the share of the budget that is used, so that a run of any
length ends annealed. State (weights, average, optimiser, random generator, seconds used)
is written to a temporary name and renamed; a stopped run goes on from there.
"""

from __future__ import annotations

import copy
import csv
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

#: Seconds of training after which the averaged weights are kept: what a finding is on unfinished
#: weights is asked of these.
MARKS = (225, 450, 900, 1200, 1800, 2250, 3600, 5400, 7200, 9000, 12600, 18000, 27000)
#: One step's loss and the figures to log, from a batch's random generator and progress in 0..1.
LossFunction = Callable[[np.random.Generator, float], tuple[torch.Tensor, dict[str, float]]]


def parse_budget(text: str | float) -> float:
    """Seconds from ``"90s"``, ``"120m"``, ``"2h"`` or a plain number of seconds."""
    if isinstance(text, int | float):
        return float(text)
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text and text[-1] in units else (text, "s")
    try:
        return float(number) * units[unit]
    except ValueError:
        raise ValueError(f"budget {text!r}: write for example 90s, 120m or 2h") from None


def anneal(progress: float, warmup: float = 0.02, floor: float = 0.02) -> float:
    """Cosine learning-rate factor over the budget, with a linear warm-up."""
    if progress < warmup:
        return max(progress / warmup, 0.05)
    share = (progress - warmup) / (1 - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def mixed_precision(device: str) -> torch.autocast:
    """bfloat16 autocast where it is fast: on a GPU and on CPUs with instructions for it.

    Other CPUs emulate it, which made a step of the UNet twenty times as slow.
    """
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or native())


def save_atomically(state: object, path: Path) -> None:
    """``torch.save`` under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    torch.save(state, temporary)
    os.replace(temporary, path)


class Trainer:
    """Optimise ``modules`` for ``budget`` seconds.

    Args:
        name: names the log and the state file in ``folder``.
        modules: what is trained; their averaged copies are in ``self.average``.
        loss: computes one step's loss.
        folder: where ``<name>.pt`` and ``<name>.csv`` are kept.
        budget: seconds of training in all, earlier runs of the same state counted.
        learning_rate: peak, of AdamW.
        seed: seeds the batch generator and torch's generator at the first step.
        evaluate: called with ``self.average`` every ``evaluate_every`` seconds; its figures
            are logged.
        decay: of the exponential moving average (with a warm-up over the first steps).
        clock: gives seconds; the budget is counted on it. Default: the process's own processor
            time on a CPU, so that other work on the machine costs nothing; else the wall's.
    """

    def __init__(
        self,
        name: str,
        modules: dict[str, torch.nn.Module],
        loss: LossFunction,
        folder: str | Path,
        budget: float,
        learning_rate: float,
        seed: int = 0,
        evaluate: Callable[[dict[str, torch.nn.Module]], dict[str, float]] | None = None,
        evaluate_every: float = 300.0,
        decay: float = 0.999,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 1e-4,
        clip: float = 1.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.name, self.modules, self.loss = name, modules, loss
        self.folder, self.budget, self.learning_rate = Path(folder), budget, learning_rate
        self.evaluate, self.evaluate_every = evaluate, evaluate_every
        self.decay, self.clip, self.seed = decay, clip, seed
        on_cpu = all(p.device.type == "cpu" for m in modules.values() for p in m.parameters())
        self.clock = clock or (time.process_time if on_cpu else time.monotonic)
        self.average = {key: copy.deepcopy(module).eval() for key, module in modules.items()}
        self.parameters = [
            p for module in modules.values() for p in module.parameters() if p.requires_grad
        ]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay
        )
        self.rng = np.random.default_rng(seed)
        self.step, self.elapsed = 0, 0.0

    @property
    def state_path(self) -> Path:
        """Where the resumable state lies."""
        return self.folder / f"{self.name}.pt"

    def resume(self) -> bool:
        """Load the state of an earlier run, if there is one."""
        if not self.state_path.exists():
            return False
        state = torch.load(self.state_path, map_location="cpu", weights_only=False)
        for key, module in self.modules.items():
            module.load_state_dict(state["modules"][key])
            self.average[key].load_state_dict(state["average"][key])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        return True

    def save(self) -> None:
        """Write the resumable state."""
        save_atomically(
            {
                "modules": {key: module.state_dict() for key, module in self.modules.items()},
                "average": {key: module.state_dict() for key, module in self.average.items()},
                "optimiser": self.optimiser.state_dict(),
                "rng": self.rng.bit_generator.state,
                "torch_rng": torch.get_rng_state(),
                "step": self.step,
                "elapsed": self.elapsed,
            },
            self.state_path,
        )

    def _keep_snapshot(self) -> None:
        """Keep the averaged weights at the first save after each mark of `MARKS`."""
        mark = max((mark for mark in MARKS if mark <= self.elapsed), default=None)
        path = self.folder / "snapshots" / f"{self.name}-{mark}.pt"
        if mark is None or path.exists():
            return
        average = {
            key: {
                name: value.half() if value.dtype.is_floating_point else value
                for name, value in module.state_dict().items()
            }
            for key, module in self.average.items()
        }
        save_atomically({"average": average, "step": self.step, "elapsed": self.elapsed}, path)

    def _log(self, row: dict[str, float]) -> None:
        path = self.folder / f"{self.name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", newline="") as handle:
            writer = csv.writer(handle)
            for key, value in row.items():
                if key not in ("step", "seconds"):
                    writer.writerow([row["step"], round(row["seconds"], 1), key, f"{value:.6g}"])

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for key, module in self.modules.items():
            for mean, value in zip(
                self.average[key].state_dict().values(), module.state_dict().values(), strict=True
            ):
                if mean.dtype.is_floating_point:
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)

    def run(self) -> dict[str, torch.nn.Module]:
        """Train until the budget is used; returns the averaged modules."""
        if not self.resume():
            torch.manual_seed(self.seed)  # dropout and noise of this process's training only
        for module in self.modules.values():
            module.train()
        total: dict[str, list[float]] = {}
        last_log = last_save = self.clock()
        last_evaluation = self.elapsed
        bar = tqdm(total=round(self.budget), initial=round(self.elapsed), desc=self.name, unit="s")
        while self.elapsed < self.budget:
            began = self.clock()
            progress = self.elapsed / self.budget
            for group in self.optimiser.param_groups:
                group["lr"] = self.learning_rate * anneal(progress)
            loss, figures = self.loss(self.rng, progress)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"{self.name}: loss is {loss.item()} at step {self.step}")
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
            self.optimiser.step()
            self._update_average()
            self.step += 1
            for key, value in figures.items():
                total.setdefault(key, []).append(value)
            now = self.clock()
            self.elapsed += now - began
            if now - last_log > 30:
                row = {key: sum(values) / len(values) for key, values in total.items()}
                self._log({"step": self.step, "seconds": self.elapsed, **row})
                bar.n = round(self.elapsed)
                bar.set_postfix({key: f"{value:.3g}" for key, value in row.items()})
                total, last_log = {}, now
            if self.evaluate and self.elapsed - last_evaluation > self.evaluate_every:
                self._evaluate()
                last_evaluation = self.elapsed
            if now - last_save > 120:
                self.save()
                self._keep_snapshot()
                last_save = now
        if self.evaluate:
            self._evaluate()
        self.save()
        bar.close()
        return self.average

    def _evaluate(self) -> None:
        with torch.no_grad():
            figures = self.evaluate(self.average)
        self._log(
            {
                "step": self.step,
                "seconds": self.elapsed,
                **{f"eval_{key}": value for key, value in figures.items()},
            }
        )
