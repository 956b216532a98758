"""The range of every number that a user gives: options, chapter parameters, sweeps, calls.

One gate: a constant below refuses text, NaN, infinity and absurd values in one sentence that
names the option and its range, as ``type=`` of an option or by :meth:`Number.check`.
"""

from __future__ import annotations

import argparse
import json
import math
import numbers
import re
from dataclasses import dataclass
from typing import Any

from audioldm_utils.errors import UserError


@dataclass(frozen=True)
class Number:
    """A legal range; callable, so that it serves as ``type=`` of an argparse option."""

    kind: type[int] | type[float]  # for float a whole number will do as well
    low: float
    high: float
    infinite: bool = False  # whether infinity is legal, beside the range

    def __str__(self) -> str:
        what = "a whole number" if self.kind is int else "a number"
        ends = [str(v) if isinstance(v, int) else f"{v:.10g}" for v in (self.low, self.high)]
        return f"{what} from {' to '.join(ends)}{', or inf' if self.infinite else ''}"

    def holds(self, value: Any) -> bool:
        """Whether a value is a number of this kind and range; truth values are none."""
        wanted = numbers.Integral if self.kind is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, wanted):
            return False
        return bool(self.low <= value <= self.high or (self.infinite and value == math.inf))

    def check(self, name: str, value: Any) -> Any:
        """The value itself, or a UserError that calls it ``name``; text is no number."""
        if not self.holds(value):
            raise UserError(f"{name} must be {self}, not {shown(value)}.")
        return value

    def __call__(self, text: str) -> Any:
        """The number that an option's text stands for.

        Raises:
            argparse.ArgumentTypeError: it stands for none in range; argparse names the option.
        """
        try:
            value = self.kind(text)
        except ValueError:
            value = text
        if not self.holds(value):
            raise argparse.ArgumentTypeError(f"must be {self}, not {shown(text)}")
        return value


def shown(value: Any, most: int = 60) -> str:
    """A value as an error quotes it, on one line and never long."""
    if isinstance(value, int) and value.bit_length() > 200:  # Python refuses to print these
        return "a number of hundreds of digits"
    if isinstance(value, str):
        value = value[: most + 1]
    elif isinstance(value, list | tuple | dict | set):
        return f"a {type(value).__name__} of {len(value)}"  # its text may be without end
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


#: Of everything random: what a .ddcm file has room for.
SEED = Number(int, 0, 2**28 - 1)
#: Network calls: the timesteps that the published model was trained with.
STEPS = Number(int, 1, 1000)
#: A step of a .ddcm file; there may be more of them than of a new one.
EDIT_STEP = Number(int, 0, 2**14 - 1)
#: Classifier-free guidance; 1 is none. Generation takes no less.
GUIDANCE = Number(float, 0.0, 100.0)
FULL_GUIDANCE = Number(float, 1.0, 100.0)
#: Share of the noise of DDPM; strength of an effect.
SHARE = Number(float, 0.0, 1.0)
#: kbit/s; the upper end is 16-bit sound at 16 kHz, uncompressed.
KBPS = Number(float, 0.001, 256.0)
#: kbit/s of side information.
SIDE_KBPS = Number(float, 0.0, 64.0)
#: Mean absolute difference of log-mels, nat.
MEL_ERROR = Number(float, 1e-9, 10.0)
#: Atoms a step: with 1000 steps no more than a .ddcm file counts.
ATOMS = Number(int, 1, 2000)
#: Bases or atoms of a codebook, centres of a quantiser, candidates of a choice.
SIZE = Number(int, 1, 2**16)
#: Alpha-bar of the last step, in the thousandths that a file stores.
STOP = Number(float, 0.001, 0.999)
#: Exponent of alpha-bar between the steps.
POWER = Number(float, 0.001, 100.0)
#: Softness of choices: 0 the best, infinity a random one.
TEMPERATURE = Number(float, 0.0, 1e6, infinite=True)
#: Of a quantiser: 0 the nearest vector, above an average of near ones.
SOFTNESS = Number(float, 0.0, 1e6)
#: Seconds to generate, from one latent frame; memory grows with them.
SECONDS = Number(float, 0.04, 600.0)
#: Seconds of a clip, from the shortest one that is read to a day.
CLIP_SECONDS = Number(float, 0.1, 86_400.0)
#: Seconds into a recording.
START_SECONDS = Number(float, 0.0, 86_400.0)
#: Seconds of a block of a stream, and of what two blocks share.
WINDOW = Number(float, 0.16, 1000.0)
OVERLAP = Number(float, 0.0, 1000.0)
#: Seconds of a stream's hop, and of what it looks ahead.
HOP = Number(float, 0.04, 1000.0)
#: Level, full scale 1.
PEAK = Number(float, 1e-6, 1000.0)
#: Sample rate, Hz.
RATE = Number(int, 1000, 768_000)
#: Samples, one second at the highest rate either way.
LAG = Number(int, -768_000, 768_000)
#: Confidence of an interval.
LEVEL = Number(float, 0.01, 0.9999)
#: Candidates that are generated and ranked; all are in memory at once.
CANDIDATES = Number(int, 1, 100)
#: Processes, threads, chapters at once.
PROCESSES = Number(int, 1, 256)
#: How many clips; a chapter's 0 stands for all.
CLIPS = Number(int, 1, 1_000_000)
CLIPS_OR_ALL = Number(int, 0, 1_000_000)
#: Samples of a prompt; and where they are compared with each other.
SAMPLES = Number(int, 1, 1000)
COMPARED = Number(int, 2, 1000)
#: Stages of a residual quantiser.
STAGES = Number(int, 1, 64)
#: Latent places of a block along time and frequency; there are 16 of the latter.
BLOCK = Number(int, 1, 256)
BLOCK_FREQUENCY = Number(int, 1, 16)
#: Vectors to cluster, all in memory.
VECTORS = Number(int, 1, 1_000_000)
#: Rounds of an iteration, and steps of a gradient descent.
ROUNDS = Number(int, 0, 1000)
#: Iterations of Griffin-Lim.
ITERATIONS = Number(int, 1, 1000)
DESCENT_STEPS = Number(int, 0, 10_000)
LEARNING_RATE = Number(float, 1e-8, 10.0)
#: Any other parameter of a chapter: finite, and exact where it is whole.
FINITE = Number(float, -(2**53), 2**53)

#: Parameters of chapters by the names that all chapters spell alike; a list's are its items'.
PARAMETERS = {
    "seed": SEED,
    **dict.fromkeys(("limit", "new_clips", "recheck", "samples"), CLIPS_OR_ALL),
    "sample_steps": STEPS,
    **dict.fromkeys(("seconds", "low_seconds", "excerpt_seconds", "sample_seconds"), SECONDS),
    # The last call of a run has no choice, and half of some runs' calls are backward ones.
    **dict.fromkeys(("steps", "calls", "more_calls", "edit_steps"), Number(int, 2, 1000)),
    "paper_steps": Number(int, 9, 1000),
    "refine_steps": DESCENT_STEPS,
    "probes": Number(int, 0, 999),
    "strengths": Number(float, 0.01, 1.0),
    **dict.fromkeys(("changes", "perturbation", "margin"), SHARE),
    **dict.fromkeys(("rates", "pursuit_rates", "linear_rates", "mixture_rate"), KBPS),
    "low_rate": Number(float, 0.0, 256.0),
    "rvq_stages": STAGES,
    **dict.fromkeys(("sizes", "subset", "bases"), SIZE),
    **dict.fromkeys(("each", "alike"), COMPARED),
    "edit_atoms": ATOMS,
    "guidance": FULL_GUIDANCE,
    "temperatures": Number(float, 1e-6, 1e6),
    "softness": Number(float, 1e-6, 1e6),
}


def check_parameter(sentence: str, name: str, value: Any) -> None:
    """Refuse a chapter's parameter out of range, also within a list or dictionary.

    Args:
        sentence: what the error calls it.
        name: of the parameter, on which the range depends.

    Raises:
        UserError: a number out of range, or an empty list where numbers are asked for.
    """
    if isinstance(value, list | tuple | dict):
        if not value and name in PARAMETERS:
            raise UserError(f"{sentence} must hold one number at least.")
        for item in value.values() if isinstance(value, dict) else value:
            check_parameter(sentence, name, item)
    elif name == "device":
        try:
            device(value)
        except argparse.ArgumentTypeError as error:
            raise UserError(f"{sentence} {error}.") from None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        PARAMETERS.get(name, FINITE).check(sentence, value)


def as_lists(*values: Any) -> list[list[Any]]:
    """A chapter's lists, also where ``papermill -p`` has handed them over as text.

    Args:
        values: lists; text that spells one, such as ``"[0.2, 0.5]"``; or a single number.

    Raises:
        UserError: text that spells neither.
    """
    lists = []
    for value in values:
        if isinstance(text := value, str):
            try:
                value = json.loads(text)
            except ValueError:
                value = None
            if not isinstance(value, list | int | float):
                raise UserError(f"{shown(text)} must be a list of numbers, such as [0.2, 0.5].")
        lists.append(list(value) if isinstance(value, list | tuple) else [value])
    return lists


_DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,3})?")


def device(name: str) -> str:
    """The name of a device that networks can run on; ``type=`` of an option, like the numbers.

    Raises:
        argparse.ArgumentTypeError: there is no such kind of device (``meta`` has no memory).
    """
    if not _DEVICE.fullmatch(name):
        raise argparse.ArgumentTypeError(f"must be cpu, cuda, cuda:N or mps, not {shown(name)}")
    return name
