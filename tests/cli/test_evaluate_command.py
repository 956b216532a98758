"""``audioldm-utils evaluate``: pairs, table, summary, what failed, exit status."""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from audioldm_utils.cli.commands import evaluate
from audioldm_utils.cli.main import main
from audioldm_utils.errors import UserError


def write(path, x, rate=16000):
    path.parent.mkdir(exist_ok=True)
    sf.write(path, x, rate)


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        x = 0.1 * rng.standard_normal(8000)
        write(tmp_path / "ref" / f"{name}.wav", x)
        write(tmp_path / "est" / f"{name}.flac", 0.9 * x)
    (tmp_path / "ref" / "manifest.csv").write_text(
        "file,caption,class\na.wav,x,rain\nb.wav,y,rain\nc.wav,z,wind\n"
    )
    return tmp_path


def run(folder, *options):
    return main(["evaluate", str(folder / "ref"), str(folder / "est"), *options])


def test_table_and_summary(folders, capsys):
    out = folders / "table.csv"
    status = run(folders, "--metrics", "snr,band_energy_bias@1-2 kHz", "--out", str(out))
    captured = capsys.readouterr()
    assert status == 0
    table = pd.read_csv(out, keep_default_na=False)
    assert list(table.columns[:6]) == ["clip", "class", "method", "stage", "metric", "band"]
    assert len(table) == 6
    assert set(table["class"]) == {"rain", "wind"}
    assert set(table["method"]) == {"est"}
    snr = table[table["metric"] == "snr"]["value"]
    np.testing.assert_allclose(snr, 20, atol=0.05)
    assert pd.read_parquet(out.with_suffix(".parquet")).shape == table.shape
    line = next(line for line in captured.out.splitlines() if line.startswith("snr"))
    assert "3  dB" in line
    assert "[" in line
    assert "not measured" not in captured.err


def test_the_rest_goes_on_and_what_failed_is_named(folders, capsys):
    (folders / "est" / "a.flac").write_bytes(b"")
    write(folders / "est" / "c.flac", 0.1 * np.ones(16000) * np.sin(np.arange(16000)))
    write(folders / "est" / "only.wav", np.random.default_rng(1).uniform(-1, 1, 8000))
    with (folders / "ref" / "manifest.csv").open("a") as handle:
        handle.write("gone.wav,,\n")
    assert run(folders, "--metrics", "snr") == 1
    captured = capsys.readouterr()
    assert "   1  dB" in captured.out
    failures = [line for line in captured.err.splitlines() if "not measured" in line]
    assert len(failures) == 4
    for part in ("empty (0 bytes)", "lasts 1.00 s", "only.wav: no reference", "gone.wav: no est"):
        assert any(part in line for line in failures)


def test_nothing_measured(folders, capsys):
    for path in (folders / "est").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    assert run(folders, "--metrics", "snr") == 1
    assert "nothing could be measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--metrics", "sdr"], "unknown metric 'sdr'"),
        (["--out", "table.xls"], "written as .csv or .parquet"),
        (["--rate", "10"], "--rate must be a whole number from 1000"),
    ],
)
def test_refused_before_anything_runs(folders, capsys, options, sentence):
    assert run(folders, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("audioldm-utils: error: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_missing_folder_and_missing_arguments(folders, capsys):
    assert main(["evaluate", str(folders / "ref"), str(folders / "nowhere")]) == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err
    assert main(["evaluate", str(folders / "ref")]) == 2
    assert "two folders" in capsys.readouterr().err


def test_list(capsys):
    assert main(["evaluate", "--list"]) == 0
    out = capsys.readouterr().out
    assert "log_mel_distance" in out
    assert "visqol" in out


def test_lag_and_rate(folders):
    from audioldm_utils.audio.clips import ClipInfo

    x = np.random.default_rng(2).standard_normal(8000) * 0.1
    write(folders / "x.wav", x)
    write(folders / "late.wav", np.concatenate([np.zeros(32), x]))
    infos = [ClipInfo(folders / name, "x") for name in ("x.wav", "late.wav")]
    reference, estimate, rate = evaluate.load_pair(*infos, lag=32)
    assert rate == 16000
    np.testing.assert_array_equal(reference[:-32], estimate[:-32])
    reference, estimate, rate = evaluate.load_pair(*infos, rate=8000)
    assert (len(reference), len(estimate), rate) == (4000, 4000, 8000)


def test_other_length_is_refused(folders):
    from audioldm_utils.audio.clips import ClipInfo

    write(folders / "long.wav", np.random.default_rng(3).uniform(-1, 1, 16000))
    with pytest.raises(UserError, match=r"lasts 1\.00 s and its reference 0\.50 s"):
        evaluate.load_pair(
            ClipInfo(folders / "ref" / "a.wav", "a"), ClipInfo(folders / "long.wav", "a")
        )


def test_the_beginning_alone_may_be_compared(folders, capsys):
    for name in ("a", "b", "c"):
        x, _ = sf.read(folders / "est" / f"{name}.flac")
        write(folders / "est" / f"{name}.flac", x[:3200])
    assert run(folders, "--metrics", "snr") == 1
    assert "or --max-seconds" in capsys.readouterr().err
    assert run(folders, "--metrics", "snr", "--max-seconds", "0.2") == 0
