"""Reconstruction each way on a tiny checkpoint, and what the ladder's table says of its claims."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from audioldm_utils.audio.clips import Clip
from audioldm_utils.model.networks import Networks
from audioldm_utils.results.tables import ResultsBuilder
from audioldm_utils.studies import bottleneck, stage_costs
from audioldm_utils.studies.rows import band_errors
from audioldm_utils.studies.verdicts import REFUTED, UNDECIDED, UPHELD


@pytest.fixture(scope="module")
def networks(tiny_checkpoint):
    return Networks(tiny_checkpoint)


@pytest.fixture(scope="module")
def clip():
    t = np.arange(52800) / 48000
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(t))
    samples = (0.3 * np.sin(2 * np.pi * 1000 * t) + noise).astype(np.float32)
    return Clip("tone", samples, 48000, None, "a tone", "flute")


@pytest.fixture(scope="module")
def found(networks, clip):
    return bottleneck.reconstruct_each_way(clip, networks)


@pytest.fixture(scope="module")
def ladder(networks, clip, found):
    rows = ResultsBuilder(networks.checkpoint.fingerprint, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bottleneck, "reconstruct_each_way", lambda *_: found)
        bottleneck.measure_paths(clip, networks, rows, 0)
    return rows.table()


def test_every_path_has_the_clips_length(found, clip):
    assert set(found.audio) == set(bottleneck.PATHS)
    assert len(found.audio["band-limit"]) == len(clip.samples)
    for path in bottleneck.PATHS[1:]:
        assert found.audio[path].shape == found.reference.shape


def test_with_the_true_phase_the_true_mel_is_nearly_the_clip(found):
    """Level, alignment and gain are all right only if the waveform itself comes back."""
    correlation = np.corrcoef(found.audio["mel-original-phase"], found.reference)[0, 1]
    assert correlation > 0.97


def test_every_path_is_in_the_table(networks, ladder):
    assert set(ladder["method"]) == {*bottleneck.PATHS, "original", "vae", "pca"}
    judged = ladder[ladder["method"] == "vae-inverse"]
    pitch = {"chroma_correlation", "comb_excess"}
    assert {*bottleneck.JUDGES, *bottleneck.ALIGNED, "visqol", *pitch} == set(judged["metric"])
    assert set(ladder["checkpoint"]) == {networks.checkpoint.fingerprint[:12]}
    value = ladder.set_index(["method", "metric", "band"])["value"]
    assert 0 <= value["original", "comb_share", ""] < 1.01
    # The linear map of as many numbers is near the mel; random weights are not.
    assert value["pca", "mel_error", ""] < 0.3 < value["vae", "mel_error", ""]


def test_what_has_no_pitch_has_no_rows_of_it(networks, clip, found, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr(bottleneck, "reconstruct_each_way", lambda *_: found)
    rows = ResultsBuilder("", 0)
    bottleneck.measure_paths(replace(clip, category="dog"), networks, rows, 0)
    metrics = set(rows.table()["metric"])
    assert not metrics & {"chroma_correlation", "comb_excess", "comb_share", "f0_error", "stoi"}


def test_band_errors_by_hand():
    reference = np.zeros((10, 64))
    estimate = reference.copy()
    estimate[:, -1] = 0.64
    found = band_errors(reference, estimate)
    assert found[""] == pytest.approx(0.01)
    assert found["0-0.5 kHz"] == 0
    assert found["4-8 kHz"] > 0.01


def test_refinement_never_loses(networks, clip):
    rows = ResultsBuilder(networks.checkpoint.fingerprint, 0)
    bottleneck.measure_refined(clip, networks, rows, 0, excerpt_seconds=2.56, refine_steps=25)
    table = rows.table()
    error = table[table["band"] == ""].set_index("method")["value"]
    assert error["refined-latent"] < error["vae"]


def table_of(vocoder, inverse, griffin_lim, vae, pca, phase=(1.0, 0.5), clips=8):
    """A ladder: synthesis costs (nat, STFT, chroma) of the true mel, and the VAE's on top."""
    rows = ResultsBuilder("", 0)
    stft, chroma = "multi_resolution_stft", "chroma_correlation"
    for number in range(clips):
        name, wobble = f"clip{number}", 1 + number / 100
        for way, cost in (("vocoder", vocoder), ("inverse", inverse), ("griffinlim", griffin_lim)):
            decibels, distance, lost = np.multiply(cost, (8.685889638, 1, 1)) * wobble
            rows.add(name, "log_mel_distance", decibels, "dB", method=f"mel-{way}")
            rows.add(name, stft, distance, "1", method=f"mel-{way}")
            rows.add(name, chroma, 1 - lost, "1", method=f"mel-{way}")
            rows.add(name, stft, distance + vae[1] * wobble, "1", method=f"vae-{way}")
            rows.add(name, chroma, 1 - lost - vae[2] * wobble, "1", method=f"vae-{way}")
        for method, error in (("vae", vae[0]), ("pca", pca)):
            rows.add(name, "mel_error", error * wobble, "nat", method=method, stage="mel")
        for method, distance in zip(("mel-original-phase", "stft-griffinlim"), phase, strict=True):
            rows.add(name, stft, distance * wobble, "1", method=method)
    return rows.table()


GOOD = {"inverse": (0.02, 0.1, 0.05), "griffin_lim": (0.01, 0.3, 0.3)}


def test_a_bad_vocoder_is_the_bottleneck_by_every_measure():
    table = table_of((0.6, 0.9, 0.8), vae=(0.1, 0.3, 0.1), pca=0.05, **GOOD)
    found = stage_costs.dearer(table, "vocoder")
    assert set(found.values()) == {UPHELD}
    assert set(stage_costs.dearer(table, "inverse").values()) == {REFUTED}
    assert list(stage_costs.ladder_claims(table).values()) == [
        UPHELD, REFUTED, UPHELD, UPHELD, UPHELD,
    ]  # fmt: skip
    said = stage_costs.ladder_answer(table)
    assert said["bottleneck"] == "vocoder"
    assert "not with this vocoder" in said["advice"]
    assert said["answer"].startswith(
        "With this checkpoint's vocoder, the vocoder costs more than the VAE by log-mel error,"
        " multi-resolution STFT distance and chroma correlation. With the fitted inverse of the"
        " mel in its place, the VAE costs more than the fitted inverse by log-mel error,"
    )
    assert "the vocoder costs 0.93 [" in said["answer"]
    costs = stage_costs.cost_table(table)
    assert list(costs["costs more"]) == ["vocoder"] * 3 + ["VAE"] * 3
    assert costs.iloc[0, 2].startswith("0.621 [")
    assert costs.iloc[0, 2].endswith("nat")


def test_a_good_vocoder_and_a_bad_vae():
    table = table_of((0.02, 0.1, 0.01), vae=(0.3, 0.8, 0.3), pca=0.4, phase=(0.2, 0.5), **GOOD)
    assert list(stage_costs.ladder_claims(table).values()) == [
        REFUTED, REFUTED, UPHELD, REFUTED, REFUTED,
    ]  # fmt: skip
    said = stage_costs.ladder_answer(table)
    assert said["bottleneck"] == "VAE"
    assert "measures do not decide" in said["advice"]  # equal distance, better chroma


def test_the_answer_names_the_front_end_and_the_plain_synthesis():
    costs = {"vae": (0.01, 0.02, 0.01), "pca": 0.05}
    table = table_of((0.6, 0.9, 0.8), **GOOD, **costs)
    rows = ResultsBuilder("", 0)
    for number in range(8):
        rows.add(f"clip{number}", "multi_resolution_stft", 2.0 + number / 100, "1",
                 method="band-limit")  # fmt: skip
    said = stage_costs.ladder_answer(pd.concat([table, rows.table()]))["answer"]
    assert said.startswith(
        "The step from mel to sound costs more than the VAE by log-mel error, multi-resolution "
        "STFT distance and chroma correlation, with this checkpoint's vocoder and with the fitted"
    )
    assert "This vocoder is worse than Griffin-Lim (+0.6" in said
    assert "above 8 kHz: beside the clip at its own rate that is a multi-resolution STFT" in said
    assert "distance of 2.03 [" in said
    assert said.endswith("not to be ranked).")
    good = stage_costs.ladder_answer(table_of((0.01, 0.05, 0.01), **GOOD, **costs))["answer"]
    assert "This vocoder is better than Griffin-Lim" in good
    assert stage_costs.hidden(table) == ""  # the VAE costs the same under both


def test_a_bad_synthesis_hides_the_loss_of_the_vae():
    table = table_of((0.6, 0.9, 0.8), vae=(0.1, 0.3, 0.1), pca=0.05, **GOOD)
    vocoder = (table["method"] == "vae-vocoder") & (table["metric"] == "multi_resolution_stft")
    table.loc[vocoder, "value"] -= 0.2
    assert "under the fitted inverse it costs 0.200 [" in stage_costs.hidden(table)


def test_few_clips_and_measures_that_disagree_decide_nothing():
    few = table_of((0.6, 0.9, 0.8), vae=(0.1, 0.3, 0.1), pca=0.05, clips=3, **GOOD)
    assert set(stage_costs.ladder_claims(few).values()) == {UNDECIDED}
    said = stage_costs.ladder_answer(few)
    assert "vocoder or the VAE" in said["bottleneck"]
    assert "are not told apart by log-mel error, multi-resolution" in said["answer"]
    mixed = table_of((0.6, 0.2, 0.8), vae=(0.1, 0.3, 0.1), pca=0.05, **GOOD)
    assert stage_costs.dearer(mixed, "vocoder")["multi_resolution_stft"] == REFUTED
    assert stage_costs.ladder_claims(mixed)["claim_1"] == REFUTED
    assert "vocoder or the VAE" in stage_costs.ladder_answer(mixed)["bottleneck"]


def test_without_tonal_clips_the_rest_is_still_told():
    table = table_of((0.6, 0.9, 0.8), vae=(0.1, 0.3, 0.1), pca=0.05, **GOOD)
    table = table[table["metric"] != "chroma_correlation"]
    assert stage_costs.dearer(table, "vocoder")["chroma_correlation"] == UNDECIDED
    assert list(stage_costs.cost_table(table)["n"]) == [8, 8, 0] * 2
    assert "not told apart by chroma correlation" in stage_costs.ladder_answer(table)["answer"]


def test_attacks_have_their_known_answers():
    from audioldm_utils.metrics import chroma_correlation, comb_excess, f0_error, snr

    t = np.arange(32000) / 16000
    x = sum(np.sin(2 * np.pi * 233 * k * t) / k for k in range(1, 9)).astype(np.float32) * 0.1
    x += 0.003 * np.random.default_rng(0).standard_normal(len(x)).astype(np.float32)
    made = {name: attack(x) for name, attack in bottleneck.attacks().items()}
    assert {len(y) for y in made.values()} == {len(x)}
    assert snr(x, made["inverted polarity"], 16000) == pytest.approx(-6.02, abs=0.01)
    assert snr(x, made["white noise at 10 dB"], 16000) == pytest.approx(10, abs=0.2)
    assert made["5 ms later"][80:100] == pytest.approx(x[:20])
    assert made["backwards"][:20] == pytest.approx(x[:-21:-1])
    assert f0_error(x, made["one semitone up"], 16000) == pytest.approx(100, abs=10)
    assert chroma_correlation(x, made["one semitone up"], 16000) < 0.3
    assert chroma_correlation(x, made["5 ms later"], 16000) > 0.99
    hiss = np.random.default_rng(1).standard_normal(32000).astype(np.float32)
    assert comb_excess(hiss, bottleneck.attacks()["100 Hz comb"](hiss), 16000) > 0.6
