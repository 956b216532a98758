"""Every method on a tiny checkpoint: the signature, the costs, and what must hold exactly."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audioldm_utils.audio.clips import Clip
from audioldm_utils.errors import UserError
from audioldm_utils.methods.enhance import bands
from audioldm_utils.methods.registry import METHODS, find_method, reconstruct
from audioldm_utils.model.checkpoint import load
from audioldm_utils.model.networks import Networks
from audioldm_utils.studies.compensation import fit


def sound(seconds: float = 0.48, rate: int = 22050, seed: int = 0) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * 440 * t) * np.exp(-3 * t)
    return (0.2 * tone + 0.02 * np.random.default_rng(seed).standard_normal(len(t)) + 0.01).astype(
        "f4"
    )


@pytest.fixture(scope="module")
def networks(tiny_checkpoint: Path, tmp_path_factory) -> Networks:
    """A copy of its own, since fits are stored beside the checkpoint."""
    from audioldm_utils.ddcm.codebook.fitted import VectorQuantiser
    from audioldm_utils.studies.codebook_fits import save_quantiser

    folder = tmp_path_factory.mktemp("methods") / "tiny"
    shutil.copytree(tiny_checkpoint, folder)
    networks = Networks(folder)
    fingerprint = networks.checkpoint.fingerprint
    bands.save_compensation(bands.identity_compensation(fingerprint), folder)
    centres = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0))
    save_quantiser(folder, fingerprint, "vq", VectorQuantiser(centres), {})
    return networks


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip("tone", sound(), 22050, Path("tone.wav"), "a tone", "tone")


def one(clip, method, networks, **options):
    (result,) = reconstruct(clip, method, networks, **options)
    return result


SMALL = {
    "vae": {},
    "vae-griffinlim": {"iterations": 2},
    "vae-inverse": {"iterations": 2},
    "vae-highfreq": {},
    "vae-denoise": {"iterations": 2, "gate": 0.5},
    "vae-refined": {"steps": 2},
    "vae-restored": {"steps": 2, "iterations": 2},
    "sdedit": {"steps": 2},
    "ddpm-inversion": {"steps": 2},
    "guided": {"steps": 2},
    "ddcm": {"steps": 3, "kbps": 2.0},
    "ddcm-quantised": {"steps": 3, "kbps": 2.0},
}


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_returns_the_same_things(method, networks, clip):
    steps = []
    result = one(
        clip, method, networks, progress=lambda *step: steps.append(step), seed=3, **SMALL[method]
    )
    wide = result.sample_rate == clip.sample_rate
    assert wide == (method in ("vae-highfreq", "vae-restored"))
    assert result.sample_rate in (16000, 22050)
    assert len(result.audio) == (len(clip.samples) if wide else round(0.48 * 16000))
    assert result.audio.dtype == np.float32
    assert np.isfinite(result.audio).all()
    assert result.latents.shape[0] == 8
    assert result.latents.shape[2] == 16
    assert result.kbps == pytest.approx(result.side_bits / clip.seconds / 1000)
    assert (result.side_bits > 0) == (wide or method.startswith("ddcm"))
    cost = result.cost
    assert cost.forward["vae_decoder"] >= 1
    assert (cost.forward["vocoder"] >= 1) == ("vocoder" in find_method(method).needs)
    assert cost.seconds > 0
    assert cost.peak_memory > cost.memory_growth >= 0
    assert (cost.unet_calls > 0) == ("unet" in find_method(method).needs)
    assert not result.oracle
    assert result.checkpoint == networks.checkpoint.fingerprint
    assert all(name == "tone" and done <= total for name, done, total in steps)


@pytest.mark.parametrize("method", list(METHODS))
def test_same_seed_same_bytes_in_any_company(method, networks, clip):
    other = Clip("other", sound(0.3, seed=5), 22050, Path("other.wav"))
    options = SMALL[method]
    alone = one(clip, method, networks, seed=1, **options)
    _, among = reconstruct([other, clip], method, networks, seed=1, **options)
    assert alone.audio.tobytes() == among.audio.tobytes()
    assert torch.equal(alone.latents, among.latents)
    if method in ("sdedit", "guided"):
        assert not np.array_equal(alone.audio, one(clip, method, networks, seed=2, **options).audio)


def test_vae_is_the_stages_own(networks, clip):
    from audioldm_utils.audio.clips import to_model_rate

    plain = networks.reconstruct_vae(torch.from_numpy(to_model_rate(clip))[None])[0].numpy()
    result = one(clip, "vae", networks)
    assert np.abs(result.audio - plain).max() < 1e-5
    assert result.cost.forward == {"unet": 0, "vae_encoder": 1, "vae_decoder": 1, "vocoder": 1}
    assert not any(result.cost.backward.values())


@pytest.mark.parametrize("method", ["sdedit", "guided"])
def test_strength_zero_is_the_vae(method, networks, clip):
    plain = one(clip, "vae", networks)
    result = one(clip, method, networks, strength=0.0)
    assert result.audio.tobytes() == plain.audio.tobytes()
    assert result.cost.unet_calls == 0


def test_sdedit_counts_guidance_as_two_calls(networks, clip):
    assert one(clip, "sdedit", networks, steps=3).cost.unet_calls == 3
    assert one(clip, "sdedit", networks, steps=3, guidance=2.0).cost.unet_calls == 6
    none = one(clip, "sdedit", networks, steps=3, guidance=2.0, prompt="none")
    assert none.cost.unet_calls == 3
    assert none.details["prompt"] == ""


@pytest.mark.parametrize("prompt", ["caption", "none"])
def test_inversion_replayed_returns_the_input(prompt, networks, clip):
    result = one(clip, "ddpm-inversion", networks, steps=5, prompt=prompt)
    plain = one(clip, "vae", networks)
    assert (result.latents - plain.latents).abs().max() < 1e-4
    assert result.details["distance_from_input"] < 1e-4
    assert result.cost.forward["unet"] == 10


def test_inversion_edits_with_another_prompt_and_less_when_skipping(networks, clip):
    plain = one(clip, "vae", networks).latents
    options = {"steps": 5, "target": "a loud dog", "target_guidance": 30.0}
    full = one(clip, "ddpm-inversion", networks, **options).latents
    late = one(clip, "ddpm-inversion", networks, skip=0.8, **options).latents
    assert (full - plain).abs().mean() > (late - plain).abs().mean() > 1e-5
    assert torch.equal(one(clip, "ddpm-inversion", networks, steps=5, skip=1.0).latents, plain)


@pytest.mark.parametrize("gradient", ["unet", "direct"])
@pytest.mark.parametrize("distance", ["latent", "mel"])
def test_guided_is_nearer_than_sdedit_at_equal_calls(gradient, distance, networks, clip):
    plain = one(clip, "vae", networks).latents
    options = {"strength": 0.5, "prompt": "none"}
    steps = 4 if gradient == "unet" else 8
    free = one(clip, "sdedit", networks, steps=8, **options)
    drawn = one(
        clip, "guided", networks, steps=steps, gradient=gradient, distance=distance, **options
    )
    assert drawn.cost.unet_calls == free.cost.unet_calls == 8
    assert drawn.cost.backward["unet"] == (4 if gradient == "unet" else 0)
    assert drawn.cost.backward["vae_decoder"] == (steps if distance == "mel" else 0)
    if distance == "latent":
        assert (drawn.latents - plain).abs().mean() < (free.latents - plain).abs().mean()
    curve = drawn.details["distance_by_step"]
    assert len(curve) == steps
    assert np.isfinite(curve).all()


def test_refinement_counts_backward_calls_and_lowers_the_distance(networks, clip):
    result = one(clip, "vae-refined", networks, steps=6)
    assert result.cost.backward["vae_decoder"] == 6
    assert result.cost.forward["vae_decoder"] == 8  # six steps, the last look, the output
    curve = result.details["mel_distance_by_step"]
    assert curve.min() < curve[0]


def test_refinement_of_long_clips_goes_in_pieces(networks, clip, monkeypatch):
    from audioldm_utils.methods import repair

    monkeypatch.setattr(repair, "REFINE_ROWS", 4)
    result = one(clip, "vae-refined", networks, steps=2)
    assert result.latents.shape == (8, 12, 16)
    assert result.cost.backward["vae_decoder"] == 6


def test_highfreq_parts_and_bits(networks, clip):
    plain = one(clip, "vae", networks)
    bare = one(clip, "vae-highfreq", networks, side_kbps=0.0, extend=False, blind="fitted")
    assert bare.side_bits == 0
    assert bare.sample_rate == 16000
    assert np.abs(bare.audio - plain.audio).max() < 1e-4  # the fit here changes nothing
    full = one(clip, "vae-highfreq", networks, side_kbps=0.2, extension_kbps=1.0)
    below, above = (full.details[f"side_bits_{band}_khz"] for band in ("4_to_8", "above_8"))
    assert full.side_bits == below + above
    assert below <= 200 * clip.seconds
    assert above <= 1000 * clip.seconds
    oracle = one(clip, "vae-highfreq", networks, oracle=True)
    assert oracle.oracle
    assert oracle.label == "vae-highfreq (oracle)"


def test_a_part_must_better_the_rule_and_worsen_no_measure_of_it():
    from audioldm_utils.methods.repair import _betters

    score = np.log([2.0, 4.0, 0.5])
    assert _betters(score, np.log([1.9, 3.5, 0.52]))
    assert not _betters(score, np.log([1.0, 1.0, 0.6]))  # 20 % louder mistakes for all that
    assert not _betters(score, np.log([1.99, 4.0, 0.5]))


def test_the_rule_hears_a_single_shock():
    from types import SimpleNamespace

    from audioldm_utils.methods.repair import _rule

    rng = np.random.default_rng(0)
    sound = (0.05 * rng.standard_normal(32000)).astype(np.float32)
    shocked = sound.copy()
    shocked[16000:16064] += 0.9
    change = _rule(SimpleNamespace(waveform=sound), shocked) - _rule(
        SimpleNamespace(waveform=sound), sound + 1e-3
    )
    assert change[2] > np.log(2)


def test_restored_pays_for_its_decisions(networks, clip):
    result = one(clip, "vae-restored", networks, steps=1, iterations=1, extend=False)
    parts = {"refined", "phase", "quiet", "compensation", "envelope"}
    assert set(result.details["parts"]) == parts
    assert result.side_bits >= 4  # the choice of latents costs none
    assert result.kbps <= 0.2


def test_a_checkpoint_without_a_fit_says_what_to_do(tiny_codec, clip, tmp_path):
    shutil.copytree(tiny_codec, tmp_path / "bare")
    with pytest.raises(UserError, match="audioldm-utils fit --checkpoint"):
        one(clip, "vae-highfreq", tmp_path / "bare")
    result = one(clip, "vae-highfreq", tmp_path / "bare", blind="none")
    assert result.side_bits > 0
    with pytest.raises(UserError, match="unet"):
        one(clip, "sdedit", tmp_path / "bare")


def test_fit_on_a_folder(networks, tmp_path):
    for seed in range(3):
        soundfile.write(tmp_path / f"{seed}.wav", sound(0.4, seed=seed), 22050)
    seen = []
    found = fit(networks, tmp_path, limit=2, progress=lambda *counts: seen.append(counts))
    assert found.clips == ("0", "2")
    assert seen == [(1, 2), (2, 2)]
    assert found.fingerprint == networks.checkpoint.fingerprint
    assert np.abs(found.table).max() > 0.1
    assert np.isfinite(found.scale).all()


def test_unknown_names_and_values_list_the_choices(networks, clip):
    with pytest.raises(
        UserError, match="unknown method 'vea'; choose one of: vae, vae-griffinlim, "
    ):
        reconstruct(clip, "vea", networks)
    with pytest.raises(UserError, match="no option 'strenght'; it has: strength, steps"):
        reconstruct(clip, "sdedit", networks, strenght=1)
    with pytest.raises(UserError, match=r"steps of sdedit must be a whole number .*, not 'many'"):
        reconstruct(clip, "sdedit", networks, steps="many")
    with pytest.raises(UserError, match="must be true or false"):
        reconstruct(clip, "vae-highfreq", networks, extend="perhaps")
    with pytest.raises(UserError, match="strength of sdedit must be a number from 0 to 1, not 2"):
        one(clip, "sdedit", networks, strength=2)
    with pytest.raises(UserError, match="distance must be one of latent, mel"):
        one(clip, "guided", networks, distance="wave")


def test_registry_documents_every_option():
    for method in METHODS.values():
        assert method.summary
        assert method.paper
        for option in method.options.values():
            assert option.help, f"{method.name} {option.name}"
            assert option.parse(method.name, str(option.default)) == option.default


# --- the command ------------------------------------------------------------------------


def command(*arguments) -> int:
    from audioldm_utils.cli.main import main

    return main(["reconstruct", *map(str, arguments)])


def test_command_on_a_folder(networks, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        soundfile.write(folder / f"{name}.wav", sound(0.3, seed=seed), 22050)
    (folder / "c.wav").write_text("not audio")
    path = networks.checkpoint.path
    arguments = (folder, tmp_path / "out", "--method", "sdedit", "--checkpoint", path)
    assert command(*arguments, "-o", "steps=2", "-o", "prompt=none") == 1
    assert "c.wav" in capsys.readouterr().err
    with (tmp_path / "out" / "reconstruction.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["clip"] for row in rows] == ["a", "b"]
    assert {row["unet_forward"] for row in rows} == {"2"}
    first = (tmp_path / "out" / "a.flac").read_bytes()
    assert command(*arguments, "-o", "steps=2", "-o", "prompt=none") == 1
    assert (tmp_path / "out" / "a.flac").read_bytes() == first


def test_command_on_a_file_and_its_refusals(networks, tmp_path, capsys):
    source = tmp_path / "a.wav"
    soundfile.write(source, sound(0.3), 22050)
    path = networks.checkpoint.path
    assert command(source, tmp_path / "b.wav", "--checkpoint", path) == 0
    assert soundfile.info(tmp_path / "b.wav").samplerate == 16000
    assert command(source, tmp_path / "c.wav", "--method", "nothing") == 2
    assert "choose one of: vae" in capsys.readouterr().err
    assert command(source, tmp_path / "c.wav", "-o", "strength") == 2
    assert "has no value" in capsys.readouterr().err
    assert command(source, tmp_path / "out", "--checkpoint", "nowhere") == 2
    assert "change the suffix" in capsys.readouterr().err  # before anything is loaded
    assert command(source) == 2
    assert not (tmp_path / "c.wav").exists()


def test_command_lists_methods(capsys):
    assert command("--list") == 0
    text = capsys.readouterr().out
    assert all(f"{name}: " in text for name in METHODS)
    assert "-o strength=0.3" in text


def test_what_is_not_fitted_is_said_before_anything_is_loaded(tiny_checkpoint, clip, monkeypatch):
    networks = Networks(load(tiny_checkpoint, ()))
    for method, options in {
        "vae-restored": {},
        "vae-denoise": {},
        "vae-highfreq": {"blind": "fitted"},
        "ddcm-quantised": {},
        "ddcm": {"codebook": "k-means"},
    }.items():
        with pytest.raises(UserError, match="audioldm-utils fit"):
            reconstruct(clip, method, networks, **options)
        assert networks.checkpoint.loaded == ()
    # Where the options leave out what would need it, it is not missed.
    one(clip, "vae-restored", networks, steps=0, blind=False, iterations=1)
    one(clip, "vae-highfreq", networks, oracle=True)
