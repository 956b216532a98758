"""Numbers out of range: one sentence that names the option, before anything is loaded."""

import argparse
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from audioldm_utils import bounds
from audioldm_utils.cli import main as cli
from audioldm_utils.errors import UserError

#: What no number may be; of what is legal for some, seven are left for each option.
HOSTILE = ["nan", "-inf", "1e400", str(2**64), "9" * 5000, "many", "", "-1", "0", "1e9", "inf"]
LEGAL = {
    "--temperature": {"0", "inf", "1e400", "9" * 5000},  # infinity: a random choice
    "--lag": {"0", "-1"},
    **{name: {"0"} for name in ("--seed", "--edit-step", "--guidance", "--eta", "--overlap")},
    "generate --guidance": set(),
}


def subparsers():
    (action,) = (
        a for a in cli.build_parser()._actions if isinstance(a, argparse._SubParsersAction)
    )
    return action.choices


def numeric_options():
    """(command, option, action) of every option that takes a number."""
    return [
        (command, action.option_strings[-1], action)
        for command, parser in subparsers().items()
        for action in parser._actions
        if isinstance(action.type, bounds.Number)
    ]


def refusals():
    """Run every option with every hostile value: (command, option, value, status, stderr)."""
    import contextlib
    import io

    found = []
    for command, option, action in numeric_options():
        legal = LEGAL.get(f"{command} {option}", LEGAL.get(option, set()))
        for value in HOSTILE:
            if value in legal:
                continue
            said, shown = io.StringIO(), io.StringIO()
            words = [command, option, *[value] * (action.nargs or 1)]
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
                status = cli.main(words)
            found.append((command, option, value, status, said.getvalue() + shown.getvalue()))
    return found


def test_every_numeric_option_refuses_every_hostile_value():
    program = (
        "import json, sys; from tests.cli import test_bounds; found = test_bounds.refusals();"
        "print(json.dumps([found, sorted({'torch', 'diffusers', 'pandas'} & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, heavy = json.loads(done.stdout)
    assert heavy == []
    assert len({(command, option) for command, option, *_ in found}) == len(numeric_options())
    counts = {}
    for command, option, value, status, said in found:
        assert status == 2, (command, option, value)
        # Values that begin with a minus look like options to argparse, which says so.
        wanted = rf"audioldm-utils: error: (argument )?{option}:? (must be a |expected )"
        assert re.match(wanted, said), (command, option, value, said)
        assert said.count("\n") == 1, said
        assert len(said) < 250, said
        counts[command, option] = counts.get((command, option), 0) + 1
    assert min(counts.values()) >= 7


def test_there_is_one_gate():
    """No option takes a number past it, and defaults are legal."""
    for command, parser in subparsers().items():
        for action in parser._actions:
            assert action.type not in (int, float), (command, action.option_strings)
            if "--device" in action.option_strings:
                assert action.type is bounds.device, command
    assert len(numeric_options()) >= 47
    for command, option, action in numeric_options():
        values = action.default if action.nargs else [action.default]
        for value in values:
            assert value is None or action.type.holds(value), (command, option)


@pytest.mark.parametrize(
    "device", ["meta", "abacus", "cuda:", "cuda:-1", "cpu\n", "cuda:99999", ""]
)
def test_devices(device, capsys):
    assert cli.main(["generate", "rain", "x.wav", "--device", device]) == 2
    said = capsys.readouterr().err
    assert said.startswith("audioldm-utils: error: --device must be cpu, cuda, cuda:N or mps, not ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fit", "--audio", "x", "--block", "4", "32"], "FREQUENCY of --block must be a whole"),
        (["stream", "a.wav", "b.wav", "--overlap", "2"], "--overlap must be shorter than --window"),
        (["report", "-p", "seed", "nan"], "parameter seed must be int"),
        (["report", "-p", "seed", "-1"], "parameter seed must be a whole number from 0"),
        (["report", "-p", "limit", str(2**64)], "parameter limit must be a whole number from 0"),
        (["report", "-p", "sample_seconds", "1e9"], "sample_seconds must be a number from 0.04"),
        (["report", "-p", "sample_steps", "1e400"], "parameter sample_steps must be int"),
        (["report", "-p", "limit", "[" * 9999], "parameter limit must be int"),
        (
            ["reconstruct", "a", "b", "--method", "sdedit", "-o", "steps=1e8"],
            "option steps of sdedit",
        ),
        (
            ["reconstruct", "a", "b", "--method", "ddcm", "-o", "kbps=nan"],
            "option kbps of ddcm must",
        ),
        (["reconstruct", "a", "b", "--method", "vae-refined", "-o", "learning_rate=inf"], "1e-08"),
    ],
)
def test_numbers_that_come_another_way(words, sentence, capsys):
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("audioldm-utils: error: ")
    assert sentence in said
    assert said.count("\n") == 1


def test_every_number_of_every_method_has_a_range():
    from audioldm_utils.methods.registry import METHODS

    for method in METHODS.values():
        for option in method.options.values():
            assert (option.bound is not None) == (option.type in (int, float)), option
            if option.bound:
                assert option.bound.kind is option.type
                assert option.bound.holds(option.default)


def test_ranges_of_calls():
    from audioldm_utils.ddcm.settings import Settings

    for change in (
        {"kbps": math.nan}, {"steps": 10**8}, {"guidance": math.inf}, {"seed": 2**64},
        {"size": 0}, {"eta": -1}, {"stop": 1.0}, {"power": math.nan}, {"steps": True},
        {"atoms": 10**9}, {"selection": {"temperature": math.nan}},
    ):  # fmt: skip
        name = next(iter(change)).replace("selection", "temperature")
        with pytest.raises(UserError, match=f"^{name} must be a "):
            Settings(**change)
    Settings(selection={"temperature": math.inf}, seed=int(np.int64(3)))


@pytest.mark.parametrize(
    ("bound", "value", "holds"),
    [
        (bounds.STEPS, 1000, True),
        (bounds.STEPS, np.int64(3), True),
        (bounds.STEPS, 3.0, False),
        (bounds.STEPS, True, False),
        (bounds.STEPS, "3", False),
        (bounds.SHARE, 1, True),
        (bounds.SHARE, np.float32(0.5), True),
        (bounds.SHARE, math.nan, False),
        (bounds.TEMPERATURE, math.inf, True),
        (bounds.TEMPERATURE, -math.inf, False),
        (bounds.SOFTNESS, math.inf, False),
    ],
)
def test_what_a_range_holds(bound, value, holds):
    assert bound.holds(value) is holds


def test_what_is_quoted_is_short():
    assert len(bounds.shown("x" * 10**6)) <= 60
    assert bounds.shown(10**5000) == "a number of hundreds of digits"
    bomb = ["lol"]
    for _ in range(60):
        bomb = [bomb] * 9
    assert bounds.shown(bomb) == "a list of 9"
    assert "\x1b" not in bounds.shown("\x1b[2J")


def test_help_states_the_ranges():
    text = " ".join(subparsers()["encode"].format_help().split())
    assert "(default 50) [a whole number from 1 to 1000]" in text
    assert "[a number from 0 to 1000000, or inf]" in text


def test_a_list_may_come_as_the_text_that_papermill_makes_of_it():
    assert bounds.as_lists([1, 2], "[0.5, 1]", (3,), 7, "0.1") == [
        [1, 2],
        [0.5, 1],
        [3],
        [7],
        [0.1],
    ]
    for text in ("a, b", "[1, 2", '{"a": 1}', "", "null"):
        with pytest.raises(UserError, match="must be a list of numbers"):
            bounds.as_lists([1], text)


def test_a_chapter_is_told_that_its_device_is_none():
    with pytest.raises(UserError, match=r"parameter device must be cpu, cuda, .*, not 'abacus'"):
        bounds.check_parameter("01.ipynb: parameter device", "device", "abacus")
    bounds.check_parameter("01.ipynb: parameter device", "device", "cuda:1")


@pytest.mark.parametrize(
    "command", ["report", "evidence --audio data/audio", "sweep examples/sweep.yml"]
)
def test_a_device_that_this_machine_lacks(command, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    out = tmp_path / "out"
    assert cli.main([*command.split(), "--out", str(out), "--device", "cuda"]) == 2
    assert "'cuda' is not available on this machine" in capsys.readouterr().err
    assert not out.exists()
