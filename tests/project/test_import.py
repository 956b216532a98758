"""``import audioldm_utils`` is instant and loads nothing heavy."""

import dataclasses
import inspect
import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "librosa", "pandas", "matplotlib", "scipy", "soundfile", "diffusers")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_is_light():
    loaded = run("import sys, audioldm_utils; print(*sys.modules)")
    assert not set(loaded) & set(HEAVY)


def test_import_takes_less_than_a_fifth_of_a_second():
    # Processor time of a fresh process, so that a busy machine does not fail it.
    code = "import time; t = time.process_time(); import audioldm_utils; "
    assert min(float(run(code + "print(time.process_time() - t)")[0]) for _ in range(3)) < 0.2


def test_parser_is_light():
    loaded = run("import sys, audioldm_utils.cli.main as c; c.build_parser(); print(*sys.modules)")
    assert not set(loaded) & set(HEAVY)


def test_each_name_of_the_package_is_what_it_says_and_no_other_is_there():
    import audioldm_utils

    for name in audioldm_utils.__all__:
        assert getattr(audioldm_utils, name) is not None
        assert name in dir(audioldm_utils)
    with pytest.raises(AttributeError, match="no attribute 'encoder'"):
        audioldm_utils.encoder  # noqa: B018


def test_the_command_line_has_the_defaults_of_python():
    """What both ask for: generation's arguments, and the settings of a file."""
    from audioldm_utils import Settings, generate
    from audioldm_utils.cli.main import build_parser

    settings = {field.name: field.default for field in dataclasses.fields(Settings)}
    signature, missing = inspect.signature(generate).parameters, inspect.Parameter.empty
    python = {
        ("generate", "a dog", "x.wav"): {n: p.default for n, p in signature.items()},
        # What stands against the rate is told to be there only where it is given.
        ("encode", "x.wav", "x.ddcm"): settings | {"kbps": None, "atoms": None},
    }
    for words, defaults in python.items():
        given = vars(build_parser().parse_args(words))
        shared = {n for n in given if defaults.get(n, missing) is not missing}
        assert len(shared) > 8
        assert {n: given[n] for n in shared} == {n: defaults[n] for n in shared}
