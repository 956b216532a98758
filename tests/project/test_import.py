"""``import audioldm_utils`` is instant and loads nothing heavy."""

import subprocess
import sys

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
