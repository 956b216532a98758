"""The command line ``audioldm-utils``: one module of ``commands`` a subcommand."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from audioldm_utils import __version__, bounds
from audioldm_utils.cli import commands
from audioldm_utils.errors import UserError
from audioldm_utils.text import guarded, visible


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, and whose help states the range of each number."""

    def error(self, message: str) -> NoReturn:
        """Raise :class:`UserError`: what is wrong, and where help is."""
        said = re.sub(r"^argument (\S+): (?=must )", r"\1 ", message)
        raise UserError(f"{said}; see `{self.prog} --help`.")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Behind the help of a number stand its default and its range."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if not isinstance(action.type, bounds.Number):
            return action.help
        default = action.default if action.nargs else [action.default]
        usual = "" if action.default is None else f" (default {' '.join(map(str, default))})"
        return f"{action.help or ''}{usual} [{action.type}]".strip()


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand; importing a command module loads nothing heavy."""
    parser = Parser(
        prog="audioldm-utils",
        description="Measure, repair and compress audio through AudioLDM2.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for info in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"audioldm_utils.cli.commands.{info.name}")
        subparser = subparsers.add_parser(
            info.name.replace("_", "-"),
            help=module.HELP,
            description=module.HELP,
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=_Help,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


@guarded()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; user errors and the system's become one sentence and exit status 2."""
    try:
        args = build_parser().parse_args(arguments)
        return args.run(args)
    except UserError as error:
        for sentence in error.sentences:
            print(f"audioldm-utils: error: {visible(sentence)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # disk full, no permission: not worth a traceback either
        named = f"{error.filename}: " if error.filename else ""
        said = " ".join(str(error.strerror or error).split()).rstrip(".")
        print(f"audioldm-utils: error: {visible(named + said)}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("audioldm-utils: interrupted", file=sys.stderr)
        return 130
