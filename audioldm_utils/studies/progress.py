"""A progress bar that reaches the person at the screen, also out of a running notebook."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


def screen_bar(total: int, name: str, unit: str, shown: bool = True) -> tqdm:
    """A bar with the time that is left.

    In a notebook it is written to the kernel's own standard error, which papermill's caller
    sees, and seldom; what a cell prints would stay on the page.
    """
    from tqdm import tqdm

    said = {"total": total, "desc": name, "unit": unit, "disable": not shown}
    if not ("ipykernel" in sys.modules and type(sys.stderr).__module__.startswith("ipykernel")):
        return tqdm(**said)
    try:
        # A kernel puts a pipe into the page in place of descriptor 2 and keeps the first one.
        stream = os.fdopen(os.dup(sys.stderr.fileno()), "w")
    except (OSError, ValueError):
        return tqdm(total=total, disable=True)
    stream.write("\n")
    return tqdm(**said, file=stream, mininterval=5, ncols=78)
