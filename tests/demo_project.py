"""A project of two small chapters with everything a chapter can show, for the report's tests."""

from __future__ import annotations

import io
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from audioldm_utils.book.chapters import write_pair
from audioldm_utils.book.report import run_report

ROOT = Path(__file__).resolve().parents[1]

HEADER = """\
# ---
# jupyter:
#   audioldm_utils:
#     after: {after}
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

"""

LISTEN = """
# %% [markdown]
# # Listening
#
# What does the demonstration sound like?
#
# $$ x_{i-1} = \\mu_i + \\sigma_i z_i $$

# %% tags=["parameters"]
audio_dir: str = "data/audio"  # folder of clips
checkpoint: str = "mini"  # what reconstructs
out_dir: str = "build/results/01_listen"  # tables, figures and audio
seed: int = 0  # of every draw
scale: float = 0.1  # of the noise
bands: list[str] = ["low", "high"]  # to show

# %%
from pathlib import Path

import numpy as np
import pandas as pd

from audioldm_utils.book import listening

from audioldm_utils.book import plotting

plotting.style()

# %%
rng = np.random.default_rng(seed)
time = np.arange(48000) / 48000
sweep = (0.3 * np.sin(2 * np.pi * (200 * time + 4000 * time**2))).astype(np.float32)
noisy = (sweep[::3] * 0.2 + scale * rng.standard_normal(16000)).astype(np.float32)
table = pd.DataFrame({"method": ["vae", "ddcm"], "mean": [2.5, 1.25], "low": 1.0, "high": 3.0})
Path(out_dir).mkdir(parents=True, exist_ok=True)
table.to_csv(Path(out_dir) / "ladder.csv", index=False)
table.to_parquet(Path(out_dir) / "ladder.parquet")
plotting.glue_value("vae_loss", table["mean"][0], ".2f", "dB");

# %% [markdown]
# The VAE loses {glue:text}`vae_loss` ({numref}`fig-points`); see [the reader](02_read.ipynb) and
# [a page that is not there](09_gone.ipynb).

# %%
axes = plotting.points_with_intervals(table, "log-mel distance, dB")
shown = plotting.figure_caption(
    axes.figure,
    "fig-points",
    f"The VAE loses {table['mean'][0]:.1f} dB (n = 2 clips, seed {seed}).",
    "Two points with intervals, the upper one further right.",
)
plotting.glue_object("points", shown)
shown

# %%
plotting.figure_caption(
    plotting.spectrogram_pair(sweep[::3], noisy, 16000),
    "fig-pair",
    "Noise fills what was silent.",
    "A rising line, the same line under noise, and their difference.",
)

# %%
takes = [listening.Take("original", sweep, 48000), listening.Take("vae", noisy, 16000)]
grid = listening.players([listening.Row("sweep", takes)], Path(out_dir) / "listening")
plotting.glue_object("players", grid)
grid

# %%
listening.abx([("sweep", *takes)], Path(out_dir) / "abx", trials=2)
"""

READ = """
# %% [markdown]
# # Reading
#
# What did the first chapter leave? The VAE lost {{01:vae_loss}} there.

# %% tags=["parameters"]
out_dir: str = "build/results/02_read"  # tables
limit: int = 2  # rows at most

# %%
from pathlib import Path

rows = (Path(out_dir).parent / "01_listen" / "ladder.csv").read_text().splitlines()[1 : limit + 1]
print(len(rows))
"""


def write_notebook(folder: Path, name: str, body: str, after: str = "[]") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{name}.py"
    source.write_text(HEADER.format(after=after) + textwrap.dedent(body).lstrip())
    return write_pair(source)


def write_audio(folder: Path) -> None:
    folder.mkdir(parents=True)
    tone = 0.1 * np.sin(np.arange(16000) / 10)
    sf.write(folder / "tone.flac", tone, 16000)


def make_project(folder: Path) -> Path:
    """The real book's pages, two demonstration chapters, one clip, a checkpoint's folder."""
    write_notebook(folder / "notebooks", "01_listen", LISTEN)
    write_notebook(folder / "notebooks", "02_read", READ, after="[01_listen]")
    write_audio(folder / "data" / "audio")
    mini = folder / "data" / "checkpoints" / "mini"
    mini.mkdir(parents=True)
    (mini / "config.json").write_text("{}")
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("evidence"))
    index = folder / "book" / "index.md"
    index.write_text(
        index.read_text()
        + "\n## Demonstration\n\n- The VAE lost {{01:vae_loss}}."
        + "\n- A chapter not here: {{07:gone}}.\n\n{{01:players}}\n\n{{01:points}}\n"
    )
    return folder


_BUILT: dict[Path, Path] = {}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration project as it is before a report."""
    return make_project(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def built_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration project with its book built, once a session whoever imports this."""
    session = tmp_path_factory.getbasetemp()
    if session not in _BUILT:
        root = make_project(tmp_path_factory.mktemp("demo"))
        said = io.StringIO()
        page = run_report("data/audio", "mini", root / "build", root=root, progress=said)
        assert page == root / "build" / "html" / "index.html"
        (root / "said.txt").write_text(said.getvalue())
        _BUILT[session] = root
    return _BUILT[session]
