"""The one exception that speaks to users."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user gave cannot be used; one sentence says what was wrong and what to do.

    The command line prints it without a traceback and exits with 2.
    """

    @property
    def sentences(self) -> list[str]:
        """What is to be said, a line each."""
        return [str(self)]
