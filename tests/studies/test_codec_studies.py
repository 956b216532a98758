"""Studies of codec and codebooks on a tiny checkpoint: the rows that chapters read are there."""

import shutil

import numpy as np
import pytest

from audioldm_utils.audio.clips import Clip
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Networks
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import choices, rates
from audioldm_utils.studies.codebook_fits import (
    fit_vectors,
    save_fitted,
    save_kmeans,
    save_quantiser,
)
from tests.oracle import white


def clip(name="tone", seconds=1.3, pitch=400):
    t = np.arange(round(16000 * seconds)) / 16000
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(t))
    sound = 0.2 * np.sin(2 * np.pi * pitch * t * (1 + 0.3 * t)) + noise
    return Clip(name, sound.astype(np.float32), 16000, None, "a tone", "tone")


@pytest.fixture(scope="module")
def networks(tiny_checkpoint, tmp_path_factory):
    """A tiny checkpoint with everything fitted beside it."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("own") / "tiny")
    found = Networks(load(folder, ()))
    place = found.checkpoint.path, found.checkpoint.fingerprint
    latents = list(white(4, (8, 64, 16)))
    parts = (("vq", (1, 1), 1), ("rvq", (4, 4), 2), ("rvq-coarse", (8, 8), 2))
    for name, block, count in parts:
        fitted = fit_vectors(latents, 8, block=block, stages=count, iterations=2)
        save_quantiser(*place, name, fitted, {})
    save_kmeans(*place, "k-means", white(4, (8 * 8 * 8,)), (8, 8), {})
    save_fitted(*place, "linear", rates.linear_fit(latents), {})
    return found


def table_of(function, networks, what=None, **grid):
    found = ResultsBuilder(networks.checkpoint.fingerprint, 0)
    function(clip() if what is None else what, networks, found, 0, 2.56, **grid)
    return found.table()


def test_rates_beside_ceilings_and_other_codecs(networks):
    grid = {"rates": (0.1, 0.2, 0.5, 1, 2, 5), "low_rate": 0.1, "low_seconds": 5.12}
    table = table_of(
        rates.measure_rates, networks, steps=4, rvq_stages=(1, 2, 4), **grid, coarse_stages=(1, 2)
    )
    assert {"ddcm", "vae", "mel", "rvq", "opus", "mp3", "envelope-noise"} == set(table["method"])
    value = table.set_index(["method", "stage", "metric"])["value"]
    # 1.3 s cannot pay the header at the lowest rates, and has no row there.
    assert ("ddcm", "0.1 kbit/s", "rate") not in value
    for rate in (1, 2, 5):
        paid = value["ddcm", f"{rate} kbit/s", "rate"]
        assert paid <= rate
        assert value["ddcm", f"{rate} kbit/s", "payload_rate"] < paid
    assert value["opus", "level 1", "payload_rate"] < value["opus", "level 1", "rate"]
    assert value["vae", "griffin-lim", "log_mel_distance"] > 0
    assert ("ddcm", "1 kbit/s, vocoder", "visqol") not in value  # it is the checkpoint's own
    assert value["rvq", "1 coarse stages", "rate"] < value["rvq", "1 stages", "rate"]
    noise = value.xs("payload_rate", level="metric")["envelope-noise"]
    assert noise["broadband"] < noise["seven bands"] < 0.5
    charged = value["rvq", "1 stages", "rate"] - value["rvq", "1 stages", "payload_rate"]
    assert 28 * 8 / 1.3 / 1000 <= charged <= 60 * 8 / 1.3 / 1000


def test_one_part_is_changed_at_a_time(networks):
    short = clip(seconds=0.7)
    uniform = table_of(
        rates.measure_placement, networks, short, steps=4, rates=(0.2, 0.5, 1, 2, 5), low_rate=0.1
    )
    assert set(uniform["method"]) == {"ddcm-uniform"}
    grid = {"pursuit_rates": (0.4, 0.7, 1.2), "linear_rates": (0.5, 1), "paper_steps": 9}
    table = table_of(rates.measure_codebooks, networks, short, steps=4, bases=4, **grid)
    calls = table[table["metric"] == "network_calls"].set_index(["method", "stage"])["value"]
    paper = calls["ddcm-gaussian", "one atom of 1024"]
    assert paper == 9
    assert calls["ddcm", "one atom of shifts"] < 0.75 * paper
    assert {"linear", "ddcm-pursuit"} <= set(table["method"])
    rate = table[table["metric"] == "payload_rate"].set_index(["method", "stage"])["value"]
    assert rate["ddcm", "one atom of shifts"] <= rate["ddcm-gaussian", "one atom of 1024"] + 0.01


def test_mixtures_are_labelled_by_how_many(networks):
    grid = {"steps": 3, "mixture_rate": 1.0}
    group = [clip("a"), clip("b", 0.9, 900), clip("c", 1.3, 2000)]
    table = table_of(rates.measure_mixtures, networks, group, **grid)
    assert set(table["clip"]) == {"a"}
    assert set(table["stage"]) == {"one clip", "pair", "triple"}
    alone = table_of(rates.measure_mixtures, networks, group[:1], **grid)
    assert set(alone["stage"]) == {"one clip"}


def test_choices_hold_every_codebook_and_softness(networks):
    table = table_of(
        choices.measure_choices, networks, steps=4, temperatures=(), softness=(0.1, 0.5, 2.0)
    )
    value = table.set_index(["method", "stage", "metric"])["value"]
    found = value.xs("choice_cosine", level="metric")
    assert found["ddcm", "temperature 0"] > found["ddcm", "temperature inf"] + 0.02
    share = table[(table["metric"] == "efficiency") & (table["method"] == "ddcm")]["value"]
    assert 0.7 < share.mean() < 0.95
    bits = value.xs("rate", level="metric")
    assert bits["ddcm", "equal rate"] <= bits["ddcm-kmeans", "equal rate"]
    assert value["ddcm", "equal rate", "noise_spread"] == pytest.approx(1, abs=0.03)
    assert value["vq", "soft, 2", "latent_error"] > 0
