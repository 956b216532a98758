"""The model card: its tables, and the figures that lie beside the weights, computed again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from audioldm_utils.audio.clips import find_clips, load_clip, to_model_rate
from audioldm_utils.model.checkpoint_fingerprint import fingerprint
from audioldm_utils.model.networks import Networks, normalise
from audioldm_utils.studies import model_card

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "data" / "checkpoints" / "mini"


def test_figures_are_held_against_what_is_asked():
    table = model_card.figures_table(
        {
            "vae": {"mel_error_nat": {"mean": 0.3, "low": 0.2, "high": 0.4, "n": 9}},
            "denoiser": {"mean_ratio": 0.5},
            "sound": {"whole_path": {"visqol": {"mean": 4.6, "low": 4.4, "high": 4.7, "n": 9}}},
            "text": {"other_t5": {"difference": {"mean": -0.1, "low": -0.2, "high": 0.0, "n": 9}}},
        }
    )
    met = dict(zip(table["figure"], table["met"], strict=True))
    assert list(met.values()) == ["no", "yes", "yes", "no"]
    assert math.isnan(table["low"].iloc[2])
    assert model_card.figures_table({}).empty


def test_a_value_beside_its_bound_is_told_with_the_digits_that_part_them():
    table = model_card.figures_table(
        {"denoiser": {"mean_ratio": 0.75023, "worst_ratio": 1.0}, "text": {"below_45_dbfs": 0}}
    )
    assert list(model_card.readable(table)["value [95 % interval]"]) == ["0.7502", "1.000", "0.000"]
    assert list(table["met"]) == ["no", "yes", "yes"]


def test_training_curves_have_readers_names_and_one_part_of_each_loss():
    log = model_card.read_table(MINI, "curves")
    found = model_card.loss_curves(log)
    assert set(found["name"]) == {name for name, _ in model_card.CURVES.values()}
    assert (found.groupby("name")["mean"].first() == 1).all()
    assert found[found["name"] == "vae"]["mean"].iloc[-1] < 0.5
    assert model_card.loss_curves(None).empty


def test_figures_of_other_weights_are_left_out(tmp_path):
    weights = {name: fingerprint(MINI, model_card.FIGURE_PARTS[name]) for name in ("vae", "clap")}
    stored = {"weights": {**weights, "clap": "0" * 64}, "vae": {"a": 1}, "clap": {"b": 2}, "x": 3}
    (tmp_path / "figures.json").write_text(json.dumps(stored))
    assert model_card.read_figures(tmp_path, MINI) == {"vae": {"a": 1}}


def test_architecture_of_the_shipped_checkpoint():
    table = model_card.architecture(MINI).set_index(["component", "property"])
    assert table.loc[("scheduler", "beta start"), "this"] == "0.0015"
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(MINI / "vae")
    count = sum(p.numel() for p in vae.parameters()) / 1e6
    assert float(table.loc[("vae", "parameters, M"), "this"]) == pytest.approx(count, abs=0.006)


def test_the_tables_of_the_card_agree_with_the_attribution():
    import pandas as pd

    attribution = pd.read_csv(MINI / "ATTRIBUTION.csv")
    sources = model_card.read_table(MINI, "sources")
    classes = model_card.read_table(MINI, "classes")
    assert sources["clips"].sum() == classes["clips"].sum() == len(attribution)
    assert set(sources["licence"]) == set(attribution["licence"])
    counts = attribution["class"].value_counts()
    assert dict(zip(classes["class"], classes["clips"], strict=True)) == counts.to_dict()


def test_plain_diffusers_gives_the_stored_figures():
    """The networks as plain diffusers loads them, on clips that come with the project."""
    from diffusers import AudioLDM2Pipeline

    figures = model_card.read_figures(MINI)
    assert set(figures) >= set(model_card.FIGURE_PARTS), (
        "figures of other weights, or none: python data/checkpoints/recipe evaluate"
    )
    stored = figures["shipped"]
    pipe = AudioLDM2Pipeline.from_pretrained(MINI)
    networks = Networks("mini")
    clips = [info for info in find_clips(ROOT / "data" / "audio") if info.name in stored][:2]
    assert clips
    for info in clips:
        wave = torch.from_numpy(to_model_rate(load_clip(info)))[None]
        mel = networks.to_mel(normalise(wave[:, : round(model_card.SECONDS * 16000)])[0])
        with torch.no_grad():
            latents = pipe.vae.encode(mel[:, None]).latent_dist.mode()
            decoded = pipe.vae.decode(latents).sample[:, 0]
            sound = pipe.vocoder(mel)[:, networks.lead : networks.lead + mel.shape[1] * 160]
        again = networks.to_mel(sound)
        found = {
            "vae_nat": (decoded - mel).abs().mean().item(),
            "vocoder_nat": (again - mel).abs().mean().item(),
        }
        for key, value in found.items():
            assert np.isclose(value, stored[info.name][key], atol=2e-3), (info.name, key)


def test_claims_of_the_card():
    def made(vae, ratio, told, copies):
        at = lambda mean: {"mean": mean, "low": mean - 0.02, "high": mean + 0.02, "n": 200}  # noqa: E731
        text = {"accuracy_of_all": at(told), "chance": 0.05, "nearest_train_nat": at(1.0)}
        linear = {"pca_4_frames_nat": at(0.2), "pca_8_frames_nat": at(0.1)}
        return {
            "vae": {"mel_error_nat": at(vae), **linear},
            "denoiser": {"mean_ratio": ratio},
            "text": {**text, "strict_near_copies": copies},
        }

    words = lambda *given: list(model_card.claims(made(*given)).values())  # noqa: E731
    assert words(0.05, 0.7, 0.5, 2) == ["upheld", "undecided", "upheld", "upheld"]
    assert words(0.15, 1.2, 0.01, 30) == ["refuted", "undecided", "refuted", "refuted"]
    assert words(0.11, 1.2, 0.06, 8) == ["undecided"] * 4
    assert set(model_card.claims({}).values()) == {"undecided"}
    assert model_card.copied({}) is None
