"""Plots: fixed looks that can be told apart, shared limits, captions, units, glue."""

from __future__ import annotations

import base64
import itertools
import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from audioldm_utils.book import plotting
from audioldm_utils.book.plotting import METHOD_STYLE, captions, look
from audioldm_utils.book.plotting.captions import LEGIBLE, smallest_text

mpl.use("Agg")


@pytest.fixture(autouse=True)
def plain():
    with mpl.rc_context():
        plotting.style()
        yield
    plt.close("all")


def linear(colour):
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def test_no_two_methods_look_alike():
    looks = [(entry.colour, entry.marker, str(entry.line)) for entry in METHOD_STYLE.values()]
    assert len(set(looks)) == len(looks)
    labels = [entry.label for entry in METHOD_STYLE.values()]
    assert len(set(labels)) == len(labels)
    # Within a colour the marker alone tells them apart; lines without one differ by dashes.
    for a, b in itertools.combinations(METHOD_STYLE.values(), 2):
        if a.colour == b.colour and a.marker and b.marker:
            assert a.marker != b.marker, (a.label, b.label)


def test_contrast_against_the_white_card():
    for method, entry in METHOD_STYLE.items():
        luminance = linear(entry.colour) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) >= 2.9, method


def test_the_main_methods_stay_apart_for_the_colour_blind():
    # Dichromat simulation in linear RGB (Viénot, Brettel and Mollon 1999, red and green).
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    names = ["original", "mel-vocoder", "vae", "sdedit", "ddcm", "rvq"]
    for matrix in (np.eye(3), protan, deutan):
        seen = {n: np.cbrt(np.clip(matrix @ linear(look(n).colour), 0, 1)) for n in names}
        for a, b in itertools.combinations(names, 2):
            different = METHOD_STYLE[a].marker != METHOD_STYLE[b].marker
            far = np.linalg.norm(seen[a] - seen[b]) > 0.1
            assert far or different, (a, b)


def test_every_named_method_has_a_look():
    wanted = """original band-limit mel-griffinlim mel-inverse mel-vocoder vae vae-griffinlim
    vae-inverse vae-vocoder vae-highfreq vae-denoise vae-refined vae-restored sdedit ddpm-inversion
    guided ddcm ddcm-quantised opus mp3 rvq"""
    assert set(wanted.split()) <= set(METHOD_STYLE)


def test_an_unlisted_method_keeps_its_look():
    assert look("something new") == look("something new")
    assert look("something new").label == "something new"


@pytest.fixture
def summary():
    return pd.DataFrame(
        {
            "method": ["vae", "ddcm", "ddcm"],
            "kbps": [0.5, 0.5, 2.0],
            "mean": [2.0, 3.0, 1.5],
            "low": [1.8, np.nan, 1.2],
            "high": [2.2, np.nan, 1.9],
        }
    )


def test_points_lie_where_the_table_says(summary):
    axes = plotting.points_with_intervals(summary[:2], "distance, dB", reference=0.0)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "VAE",
        "DDCM, cyclic shifts",
    ]
    points = [(float(c[0].get_xdata()[0]), float(c[0].get_ydata()[0])) for c in axes.containers]
    assert points == [(2.0, 0.0), (3.0, 1.0)]
    assert axes.containers[0].has_xerr
    assert not axes.containers[1].has_xerr


def test_rate_quality(summary):
    axes = plotting.rate_quality(summary, "log-mel distance, dB ↓", ceilings={"vae": 1.0})
    assert axes.get_xlabel() == "rate, kbit/s"
    assert axes.get_xscale() == "log"
    line = next(line for line in axes.lines if line.get_label() == "DDCM, cyclic shifts")
    assert list(line.get_xdata()) == [0.5, 2.0]
    assert line.get_color() == METHOD_STYLE["ddcm"].colour


def test_heatmap_of_differences_is_centred():
    table = pd.DataFrame([[1.0, -3.0], [np.nan, 2.0]], index=["a", "b"], columns=["c", "d"])
    axes = plotting.heatmap(table, "difference, dB", difference=True)
    assert axes.collections[0].get_clim() == (-3.0, 3.0)
    assert [text.get_text() for text in axes.texts] == ["1.0", "-3.0", "2.0"]


def test_a_large_heatmap_names_every_row_and_numbers_no_cell():
    names = [f"clip{i}" for i in range(26)]
    axes = plotting.heatmap(pd.DataFrame(np.eye(26), index=names, columns=names), "r")
    assert not axes.texts
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert axes.figure.get_figwidth() < 10


def charts(summary):
    """One figure of each type, with long names."""
    rng = np.random.default_rng(0)
    many = [f"clip_of_rain_{i}" for i in range(26)]
    names = ["vae", "ddcm", "stft-griffinlim", "rvq", "highfreq, side information"]
    wide = pd.DataFrame(rng.normal(size=(5, 8)), names, [f"{i / 2:g} kHz" for i in range(8)])
    rows = pd.concat([summary.assign(method=name) for name in names])
    spread = {f"{axis}_{side}": rows["mean"] for axis in "xy" for side in ("low", "high")}
    points = rows.assign(stage="0.4", x=rows["kbps"], y=rows["mean"], **spread)
    return {
        "points": plotting.points_with_intervals(rows, "distance, dB"),
        "series": plotting.points_with_intervals(
            rows.assign(cut=rows["method"]), "distance, dB", "cut", series="method"
        ),
        "rates": plotting.rate_quality(rows, "distance, dB", ceilings={"vae-vocoder": 1.0}),
        "bands": plotting.heatmap(wide, "difference, dB", "band", difference=True),
        "clips": plotting.heatmap(pd.DataFrame(np.eye(26), many, many), "r", "input", "output"),
        "trade": plotting.trade_off(points, "distance, dB", "error"),
        "pair": plotting.spectrogram_pair(*rng.normal(size=(2, 16000)), 16000).axes[0],
    }


def test_text_is_9_px_high_on_a_phone(summary):
    for name, axes in charts(summary).items():
        figure = axes.figure
        plotting.figure_caption(figure, f"fig-{name}", "caption", "alt")
        assert smallest_text(figure) >= LEGIBLE - 0.01, name


def test_a_label_that_is_longer_than_the_figure_is_wrapped(summary):
    label = "change of multi-resolution STFT distance against the fitted inverse (right is worse)"
    axes = plotting.points_with_intervals(summary, label)
    captions._wrap_labels(axes.figure)
    axes.figure.canvas.draw()
    box = axes.xaxis.label.get_window_extent()
    assert axes.get_xlabel().replace("\n", " ") == label
    assert box.x0 >= 0
    assert box.x1 <= axes.figure.bbox.width


def test_small_text_is_found():
    figure, axes = plt.subplots(figsize=(10, 3))
    axes.set_title("small", fontsize=9)
    assert smallest_text(figure) < 6


def test_spectrograms_share_limits_and_difference_is_centred():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(16000)
    figure = plotting.spectrogram_pair(x, 0.1 * x, 16000)
    a, b, difference = (axes.collections[0] for axes in figure.axes[:3])
    assert a.get_clim() == b.get_clim() == (-80.0, 0.0)
    assert difference.get_clim() == (-30.0, 30.0)
    assert np.median(np.asarray(difference.get_array())) == pytest.approx(-20.0, abs=1e-6)
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert "dB re peak of original" in labels
    assert "difference, dB" in labels


def test_what_is_below_the_floor_in_both_is_no_difference():
    x = np.sin(np.arange(16000) / 3)
    noise = np.random.default_rng(0).standard_normal(16000) * 1e-7
    figure = plotting.spectrogram_pair(x, x + noise, 16000, floor_db=-60)
    assert np.abs(figure.axes[2].collections[0].get_array()).max() < 0.2


def test_level_of_a_full_scale_sine():
    rate = 16000
    x = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    level, f, t = plotting.level_db(x, rate, peak=1.0)
    assert f[np.argmax(level[:, level.shape[1] // 2])] == pytest.approx(1000, abs=1)
    assert level[:, level.shape[1] // 2].max() == pytest.approx(20 * np.log10(0.5), abs=0.05)
    assert level.min() >= -120
    assert t[-1] <= 1.05


def test_tile_has_its_size_and_is_black_above_the_band():
    x = np.random.default_rng(0).standard_normal(16000)
    tile = plotting.spectrogram_tile(x, 16000, 24000, 0.02)
    assert tile == plotting.spectrogram_tile(x, 16000, 24000, 0.02)
    import io

    picture = mpl.image.imread(io.BytesIO(tile), format="webp") / 255
    assert picture.shape[:2] == (240, 480)
    assert picture[:40, 60:, :3].max() < 0.05
    assert picture[200:, 60:, :3].mean() > 0.4


def test_captioned_figure_brings_what_the_page_needs():
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.plot([1, 2], [3, 4])
    axes.set(xlabel="time, s", ylabel="level, dB")
    shown = plotting.figure_caption(figure, "fig-x", 'It "rises" < n = 2.', "A rising line.")
    data, metadata = shown._repr_mimebundle_()
    assert base64.b64decode(data["image/png"])[:4] == b"\x89PNG"
    assert metadata["image/png"] == {"width": 600}
    assert metadata["audioldm_utils_figure"]["alt"] == "A rising line."
    assert "&quot;rises&quot; &lt; n" in data["text/html"]
    assert not plt.fignum_exists(figure.number)


def test_figure_without_units_or_words_is_refused():
    figure, axes = plt.subplots()
    axes.plot([1, 2], [3, 4])
    axes.set_ylabel("level, dB")
    with pytest.raises(ValueError, match="fig-x: the x axis has numbers but no label"):
        plotting.figure_caption(figure, "fig-x", "caption", "alt")
    with pytest.raises(ValueError, match="needs a caption"):
        plotting.figure_caption(figure, "fig-x", " ", "alt")


def test_categories_need_no_axis_label(summary):
    axes = plotting.points_with_intervals(summary[:1], "distance, dB")
    assert plotting.figure_caption(axes.figure, "fig-x", "caption", "alt").name == "fig-x"


def test_glued_value_is_what_a_reader_sees(monkeypatch):
    import myst_nb

    kept = {}
    monkeypatch.setattr(myst_nb, "glue", lambda name, text, display: kept.update({name: text}))
    assert (
        plotting.glue_value("a", -1.25, ".1f", "dB")
        == "\N{MINUS SIGN}1.2\N{NARROW NO-BREAK SPACE}dB"
    )
    assert plotting.glue_value("b", "rain") == "rain"
    assert plotting.glue_value("c", 12) == "12"
    assert plotting.glue_value("d", float("nan"), ".2f", "nat") == "\N{EN DASH}"
    del kept["d"]
    assert kept == {"a": "\N{MINUS SIGN}1.2\N{NARROW NO-BREAK SPACE}dB", "b": "rain", "c": "12"}


def test_import_is_light():
    code = "import audioldm_utils.book.plotting, sys; print([m for m in sys.modules if m in %r])"
    heavy = ["seaborn", "matplotlib", "pandas", "scipy", "torch", "IPython", "myst_nb"]
    said = subprocess.run(
        [sys.executable, "-c", code % heavy], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def test_trade_off_draws_a_line_a_method_and_names_the_points():
    import pandas as pd

    from audioldm_utils.book.plotting import trade_off

    spread = {f"{axis}_{side}": [float("nan")] * 3 for axis in "xy" for side in ("low", "high")}
    points = pd.DataFrame(
        {
            "method": ["sdedit", "sdedit", "vae"],
            "stage": ["0.2", "0.4", ""],
            "x": [1.0, 2.0, 0.5],
            "y": [3.0, 2.0, 4.0],
            **spread,
        }
    )
    axes = trade_off(points, "distance, dB", "error")
    assert [text.get_text() for text in axes.texts] == ["0.2", "0.4"]
    lines = [line for line in axes.lines if line.get_label() == "SDEdit"]
    assert lines[0].get_xdata().tolist() == [1.0, 2.0]


def test_names_of_points_that_lie_together_do_not_cover_each_other():
    import pandas as pd

    from audioldm_utils.book.plotting import trade_off

    points = pd.DataFrame({"method": "guided", "stage": [f"strength 0.{i}" for i in range(4)]})
    points = points.assign(x=[1.0, 1.001, 1.002, 3.0], y=[2.0, 2.0, 2.001, 5.0])
    spread = {f"{axis}_{side}": points[axis] for axis in "xy" for side in ("low", "high")}
    axes = trade_off(points.assign(**spread), "distance, dB", "error")
    axes.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts if text.get_visible()]
    assert len(boxes) >= 3
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)


def test_a_table_has_the_pages_look_and_the_same_bytes_each_time():
    import pandas as pd

    from audioldm_utils.book.plotting import plain_table

    frame = pd.DataFrame({"a_b": [0.12345, float("nan")], "n": [3, 4], "met": [True, False]})
    shown = plain_table(frame, 2, caption="x < y").data
    assert 'class="dataframe"' in shown
    assert "<caption>x &lt; y</caption>" in shown
    assert "a b" in shown
    assert "yes" in shown
    assert "False" not in shown
    assert "0.12<" in shown
    assert "–" in shown
    assert shown == plain_table(frame, 2, caption="x < y").data
    assert "Nothing" in plain_table(frame[:0]).data


def test_a_table_tells_clips_and_recordings_where_they_differ():
    from audioldm_utils.book.plotting import plain_table

    frame = pd.DataFrame({"mean": [1.0, 2.0], "n": [9, 12], "recordings": [9, 7]})
    shown = plain_table(frame).data
    assert "<td>9</td>" in shown
    assert "<td>12 clips of 7 recordings</td>" in shown
    assert "<th>recordings</th>" not in shown
    assert list(frame) == ["mean", "n", "recordings"]
