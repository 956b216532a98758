"""The worker process of one chapter: a job on stdin, events as JSON lines on stdout."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from audioldm_utils.book.lifeline import lifeline
from audioldm_utils.text import plain


def main() -> int:
    """Run the job; exit status 0 when finished, 1 when a cell failed."""
    import papermill
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.exceptions import PapermillExecutionError

    # The kernel inherits descriptor 1; what it prints there must not mix with the events.
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(event: str, **details: Any) -> None:
        events.write(json.dumps({"event": event, **details}) + "\n")
        events.flush()

    class Client(PapermillNotebookClient):
        """Papermill's own client, whose kernel ends with this process."""

        def execute(self, **options: Any) -> Any:
            with lifeline() as (variables, passed):
                os.environ.update(variables)
                return super().execute(pass_fds=passed, **options)

    # The engine takes no client of another class.
    papermill.engines.PapermillNotebookClient = Client
    cells = itertools.count(1)

    def begins(cell: Any, cell_index: int) -> None:
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", ()):
            send("cell", cell=next(cells))

    job = json.load(sys.stdin)
    start = time.monotonic()
    try:
        papermill.execute_notebook(
            job["notebook"],
            job["output"],
            parameters=job["parameters"],
            kernel_name="python3",
            progress_bar=False,
            cwd=job["cwd"],
            extra_arguments=["--IPKernelApp.log_level=40"],
            on_cell_start=begins,
        )
    except PapermillExecutionError as error:
        message = f"{error.ename}: {error.evalue}".strip().splitlines()
        send(
            "failed",
            cell=error.exec_count,
            line=failed_line(error.source, error.exec_count, error.traceback),
            error=message[-1] if message else "",
        )
        return 1
    send("finished", seconds=round(time.monotonic() - start, 2), peak_mb=_peak_of_children_mb())
    return 0


def failed_line(source: str, count: int | None, traceback: Sequence[str]) -> str:
    """The line of a cell that failed, or its first where the traceback names none.

    ``count`` is the kernel's number of the cell, as in ``Cell In[3], line 2``; the traceback
    is as the kernel sent it, colours and all.
    """
    lines, said = source.splitlines(), plain("\n".join(traceback))
    numbers = [int(n) for n in re.findall(rf"Cell In\s?\[{count}\], line (\d+)", said)]
    # The last is the innermost: a function that the cell itself defines and calls.
    named = lines[numbers[-1] - 1 :][:1] if numbers else []
    return next((line.strip() for line in (*named, *lines) if line.strip()), "")


def _peak_of_children_mb() -> float:
    """Largest resident size that any ended child of this process had, in MB; 0 if unknown."""
    if os.name != "posix":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


if __name__ == "__main__":
    sys.exit(main())
