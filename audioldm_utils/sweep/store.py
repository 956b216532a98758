"""Finished tasks, one file each, found again by their key.

A part is the task's key, the SHA-256 of its rows, and the rows as CSV. One that is damaged,
truncated or misnamed counts as not there, and is computed again.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from audioldm_utils.errors import UserError
from audioldm_utils.files import atomic_write
from audioldm_utils.results.tables import from_csv, to_csv

if TYPE_CHECKING:
    import pandas as pd


class Store:
    """The folder of parts of one sweep, made on the first write."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where the part of a task lies. Not ``.csv``: it is no results table to read."""
        return self.folder / f"{key[:32]}.part"

    def write(self, key: str, table: pd.DataFrame) -> None:
        """Keep a task's rows; a UserError where the folder or the disk does not take them."""
        rows = to_csv(table)
        try:
            atomic_write(self.path(key), f"{_head(key, rows)}\n{rows}")
        except OSError as error:
            raise UserError(
                f"{self.folder}: results cannot be kept ({error.strerror or error}); what was kept "
                "stays: make room or name another folder, and give the same command again"
            ) from error

    def read(self, key: str) -> pd.DataFrame | None:
        """A task's rows; None if it is not done or its part is damaged."""
        try:
            head, _, rows = self.path(key).read_bytes().decode().partition("\n")
        except (OSError, UnicodeDecodeError):
            return None
        if head != _head(key, rows):
            return None
        return from_csv(io.StringIO(rows), "a part of the sweep")


def _head(key: str, rows: str) -> str:
    return f"{key} {hashlib.sha256(rows.encode()).hexdigest()}"
