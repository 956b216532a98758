"""The training recipe: budget, resumption, known answers of what judges the checkpoint."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from recipe.captions import augment, joined
from recipe.data import load_corpus
from recipe.loop import Trainer, anneal, parse_budget


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("120m", 7200), ("2h", 7200), ("15", 15), (3.5, 3.5)]
)
def test_budget(text, seconds):
    assert parse_budget(text) == seconds


def test_bad_budget_says_how_to_write_one():
    with pytest.raises(ValueError, match="120m"):
        parse_budget("soon")


def test_learning_rate_warms_up_peaks_and_ends_low():
    assert anneal(0.0) < 0.1
    assert anneal(0.02) == pytest.approx(1.0)
    assert anneal(1.0) == pytest.approx(0.02)


def quadratic(folder, budget, tick=0.001):
    """A trainer that pulls one parameter towards 3 with noise from the batch generator."""
    module = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    seen = []

    def loss(rng, progress):
        seen.append(rng.random())
        value = (module.weight - 3 - 0.1 * (seen[-1] - 0.5)).square().mean()
        return value, {"loss": value.item()}

    # A clock of its own: how many steps fit must not depend on what else the machine does.
    ticks = itertools.count(step=tick)
    trainer = Trainer(
        "toy", {"m": module}, loss, folder, budget, 0.05, seed=1, clock=lambda: next(ticks)
    )
    return trainer, seen


def test_training_converges_and_averages(tmp_path):
    trainer, _ = quadratic(tmp_path, budget=0.5)
    average = trainer.run()["m"]
    assert average.weight.item() == pytest.approx(3.0, abs=0.3)
    assert trainer.state_path.exists()


def test_averaged_weights_are_kept_at_marks_of_the_training(tmp_path):
    trainer, _ = quadratic(tmp_path, budget=1000, tick=50)
    trainer.run()
    kept = {path.name: torch.load(path) for path in (tmp_path / "snapshots").iterdir()}
    assert set(kept) == {"toy-225.pt", "toy-450.pt", "toy-900.pt"}
    assert 450 <= kept["toy-450.pt"]["elapsed"] < 650
    early, late = (kept[f"toy-{mark}.pt"]["average"]["m"]["weight"] for mark in (225, 900))
    assert early < late


def test_a_resumed_run_goes_on_where_it_stopped(tmp_path):
    first, drawn = quadratic(tmp_path, budget=0.2)
    first.run()
    second, drawn_later = quadratic(tmp_path, budget=0.4)
    assert second.resume()
    assert second.step == first.step
    second.run()
    expected = np.random.default_rng(1).random(len(drawn) + len(drawn_later))
    assert np.array_equal(drawn + drawn_later, expected)


def test_a_loss_that_is_not_finite_stops_with_its_step(tmp_path):
    module = torch.nn.Linear(1, 1)

    def loss(rng, progress):
        return module.weight.sum() * float("nan"), {}

    with pytest.raises(FloatingPointError, match="step 0"):
        Trainer("bad", {"m": module}, loss, tmp_path, 1.0, 0.1).run()


def corpus_of_sines(folder, split="train"):
    (folder / split).mkdir(parents=True)
    rows = []
    for index, seconds in enumerate((1.0, 0.5)):
        t = np.arange(int(seconds * 16000)) / 16000
        name = f"{split}/clip_{index}.flac"
        sf.write(folder / name, 0.3 * np.sin(2 * np.pi * 440 * (index + 1) * t), 16000)
        rows.append({"file": name, "caption": f"sine {index}", "class": "sine"})
    pd.DataFrame(rows).to_csv(folder / f"{split}.csv", index=False)


def test_corpus_is_cached_and_crops_are_aligned(tmp_path):
    corpus_of_sines(tmp_path / "data")
    first = load_corpus(tmp_path / "data", cache=tmp_path / "cache")
    again = load_corpus(tmp_path / "data", cache=tmp_path / "cache")
    assert len(first) == 2
    assert np.array_equal(first.mel, again.mel)
    clips, begin = np.array([0, 1]), np.array([10, 0])
    mel = again.mel_batch(clips, begin, 80)
    audio = again.audio_batch(clips, begin, 80)
    assert mel.shape == (2, 1, 80, 64)
    assert audio.shape == (2, 80 * 160)
    # The second clip has 50 frames; what lies behind is silence, in both.
    assert (mel[1, 0, 50:] - np.log(1e-5)).abs().max() < 1e-5
    assert torch.all(audio[1, 50 * 160 :] == 0)
    assert again.waveform(0).max() == pytest.approx(0.5, abs=1e-3)


def test_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.csv"):
        load_corpus(tmp_path)


def test_captions_are_deterministic_and_keep_their_subject():
    one = [augment("a dog barking loudly", "dog", np.random.default_rng(s)) for s in range(50)]
    two = [augment("a dog barking loudly", "dog", np.random.default_rng(s)) for s in range(50)]
    assert one == two
    assert len(set(one)) > 5
    assert joined("rain", "wind") == "rain and wind"


def test_retrieval_counts_equal_captions_and_knows_chance():
    from recipe.clap import retrieval

    perfect = torch.eye(4)
    found = retrieval(perfect, perfect, ["a", "b", "c", "d"], at=1)
    assert found["recall_at_1"] == 1.0
    assert found["over_chance"] == pytest.approx(4.0)
    # Two clips share a caption: 3 of the 4 captions' own clip is missed, but «a» finds an «a».
    swapped = torch.eye(4)[[1, 0, 3, 2]]
    found = retrieval(perfect, swapped, ["a", "a", "c", "d"], at=1)
    assert found["recall_at_1"] == 0.0
    assert found["equal_caption_recall_at_1"] == 0.5


def test_a_second_run_keeps_the_effort_of_the_first(tmp_path):
    from recipe.export import earlier_effort

    card = tmp_path / "README.md"
    assert earlier_effort(card) == {}
    card.write_text(
        "## Size\n| component | parameters |\n|---|---|\n| vae | 1.00 M |\n\n## Recipe\n\n"
        "| component | seconds | steps |\n|---|---|---|\n| vae | 2400 | 3182 |\n| unet | 10 | 2 |\n"
    )
    assert earlier_effort(card) == {"vae": ("2400", "3182"), "unet": ("10", "2")}


def test_noise_levels_count_alike_where_a_white_prior_is_known():
    """Of white latents of variance 1 the best denoiser leaves alpha_bar of the noise: all of v."""
    import torch
    from recipe.unet import level_weights

    from audioldm_utils.studies.linear_denoiser import LinearDenoiser

    alphas_bar = torch.tensor([0.98, 0.5, 0.1, 0.01])
    weights = level_weights(alphas_bar, LinearDenoiser.fit([torch.randn(8, 20000, 1)]))
    assert torch.allclose(weights, torch.ones(4), atol=0.03)


def test_the_denoiser_is_judged_against_the_best_linear_one():
    import torch
    from recipe.unet import LEVELS, denoiser_ratios

    from audioldm_utils.studies.linear_denoiser import PATCH, LinearDenoiser

    latents = [torch.randn(8, 4 * PATCH, 16) for _ in range(2)]
    linear = LinearDenoiser.fit(latents)
    alphas_bar = torch.linspace(0.999, 0.001, 1000)

    def wiener(x_t, levels, caption):
        a = alphas_bar[levels]
        return torch.stack([linear.noise(x, float(b)) for x, b in zip(x_t, a, strict=True)])

    found = denoiser_ratios(wiener, latents, ["", ""], linear, alphas_bar)
    assert list(found) == list(LEVELS)
    assert all(row["ratio"] == pytest.approx(1.0, abs=1e-3) for row in found.values())


def test_bfloat16_is_used_on_no_cpu_that_emulates_it(monkeypatch):
    import torch
    from recipe.loop import mixed_precision

    for native in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        with mixed_precision("cpu"):
            assert torch.is_autocast_enabled("cpu") is native
