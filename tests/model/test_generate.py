import gc
import itertools
import weakref

import numpy as np
import pytest
import torch

from audioldm_utils.cli.commands import generate as command
from audioldm_utils.cli.main import main
from audioldm_utils.errors import UserError
from audioldm_utils.model import checkpoint as checkpoints
from audioldm_utils.model.generation import generate, make_scheduler, starting_noise
from audioldm_utils.model.networks import Networks

PROMPT, SLUG = "rain on a roof", "rain-on-a-roof"


@pytest.fixture(scope="module")
def networks(tiny_checkpoint):
    return Networks(checkpoints.load(tiny_checkpoint, checkpoints.COMPONENTS))


@pytest.fixture
def plain(tiny_checkpoint, networks):
    """The plain pipeline, with its own copies of everything."""
    from diffusers import AudioLDM2Pipeline

    pipeline = AudioLDM2Pipeline.from_pretrained(tiny_checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm-solver++"])
def test_equals_plain_diffusers_sample_for_sample(networks, plain, sampler):
    plain.scheduler = make_scheduler(sampler, plain.scheduler.config)
    settings = [
        {"audio_length_in_s": 0.64, "negative_prompt": "music", "guidance_scale": 3.5},
        {"audio_length_in_s": 0.5, "guidance_scale": 1.0},
        {"audio_length_in_s": 0.64, "num_waveforms_per_prompt": 3, "guidance_scale": 2.0},
    ]
    for setting in settings if sampler == "ddim" else settings[:1]:
        expected = plain(
            PROMPT,
            num_inference_steps=4,
            generator=torch.Generator().manual_seed(5),
            output_type="pt",
            **setting,
        ).audios
        made = generate(
            PROMPT,
            networks,
            sampler,
            steps=4,
            guidance=setting["guidance_scale"],
            seconds=setting["audio_length_in_s"],
            seed=5,
            negative=setting.get("negative_prompt"),
            candidates=setting.get("num_waveforms_per_prompt", 1),
        )
        assert torch.equal(made.candidates[0], expected)
        assert torch.equal(made.audio, expected[:1])


def test_several_prompts_equal_plain_diffusers(networks, plain):
    prompts = [PROMPT, "a dog barks twice"]
    expected = plain(
        prompts,
        num_inference_steps=3,
        audio_length_in_s=0.64,
        generator=torch.Generator().manual_seed(1),
        output_type="pt",
    ).audios
    made = generate(prompts, networks, steps=3, seconds=0.64, seed=1)
    assert torch.equal(made.audio, expected)
    assert made.calls == 3 * 2 * 2


def test_the_published_index_makes_the_same_sound(tiny_checkpoint, networks, tmp_path):
    from tests import tiny

    published = tiny.as_published(tiny_checkpoint, tmp_path / "published")
    made = generate(PROMPT, published, steps=2, seconds=0.32)
    assert torch.equal(made.audio, generate(PROMPT, networks, steps=2, seconds=0.32).audio)


def test_calls_the_network_as_often_as_plain_diffusers(networks, plain, monkeypatch):
    calls = {"ours": 0, "plain": 0}
    for name, unet in (("ours", networks.checkpoint.unet), ("plain", plain.unet)):

        def counted(*args, _name=name, _forward=unet.forward, **kwargs):
            calls[_name] += 1
            return _forward(*args, **kwargs)

        monkeypatch.setattr(unet, "forward", counted)
    generate(PROMPT, networks, steps=3, seconds=0.32)
    plain(PROMPT, num_inference_steps=3, audio_length_in_s=0.32)
    assert calls == {"ours": 3, "plain": 3}


def test_starting_noise_of_a_sample_does_not_depend_on_the_others():
    both = starting_noise([3, 5], 4)
    assert both.shape == (2, 8, 4, 16)
    assert torch.equal(both[1:], starting_noise([5], 4))


def test_the_seed_decides(networks):
    first = generate(PROMPT, networks, "ddpm", steps=3, seconds=0.32, seed=0).audio
    assert torch.equal(
        generate(PROMPT, networks, "ddpm", steps=3, seconds=0.32, seed=0).audio, first
    )
    other = generate(PROMPT, networks, "ddpm", steps=3, seconds=0.32, seed=1).audio
    assert not torch.allclose(other, first)


@pytest.mark.parametrize(("seconds", "samples"), [(0.04, 640), (0.29, 4640), (0.333, 5328)])
def test_the_length_is_what_was_asked_for(networks, seconds, samples):
    made = generate(PROMPT, networks, steps=1, seconds=seconds)
    assert made.audio.shape == (1, samples)
    assert made.sample_rate == 16000


def test_candidates_are_ranked_by_clap(networks):
    made = generate([PROMPT, "a dog"], networks, steps=2, seconds=0.32, candidates=3)
    assert made.candidates.shape == (2, 3, 5120)
    assert torch.all(made.scores[:, :-1] >= made.scores[:, 1:])
    heard = networks.clap_audio(made.candidates[1])
    assert torch.allclose(heard @ networks.clap_text("a dog")[0], made.scores[1], atol=1e-5)
    assert torch.equal(made.audio[1], made.candidates[1, 0])


def test_an_audio_prompt_changes_the_sound(networks):
    wave = torch.randn((1, 8000), generator=torch.Generator().manual_seed(0))
    heard = generate(PROMPT, networks, steps=2, seconds=0.32, audio_prompt=wave, candidates=2)
    assert heard.scores.shape == (1, 2)
    told = generate(PROMPT, networks, steps=2, seconds=0.32)
    assert not torch.equal(heard.latents[:1], told.latents)


def test_progress_is_reported_a_step(networks):
    seen = []
    generate(PROMPT, networks, steps=3, seconds=0.32, progress=lambda *s: seen.append(s))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_checkpoint_by_name_is_unloaded_as_it_goes(tiny_checkpoint, monkeypatch):
    loaded = []
    original = checkpoints.Checkpoint._load

    def load(self, name):
        part = original(self, name)
        loaded.append((name, weakref.ref(part)))
        return part

    monkeypatch.setattr(checkpoints.Checkpoint, "_load", load)
    alive = []

    def progress(done, total):
        gc.collect()
        alive.extend(name for name, part in loaded if part() is not None)

    generate(PROMPT, tiny_checkpoint, steps=1, seconds=0.32, progress=progress)
    assert set(alive) == {"scheduler", "unet"}
    assert {name for name, _ in loaded} == set(checkpoints.COMPONENTS) - {"feature_extractor"}


def test_ddcm_is_a_sampler(networks, plain):
    options = {"codebook": "gaussian", "size": 4}
    made = generate(PROMPT, networks, "ddcm", steps=4, seconds=0.32, seed=3, **options)
    plain.scheduler = make_scheduler("ddcm", plain.scheduler.config, **options)
    expected = plain(
        PROMPT,
        num_inference_steps=4,
        audio_length_in_s=0.32,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).audios
    assert torch.equal(made.audio, expected)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sampler": "euler"}, "there is no sampler 'euler': give one of ddim, ddpm"),
        ({"steps": 0}, "steps must be a whole number from 1 to 1000, not 0"),
        ({"guidance": 0.5}, "guidance must be a number from 1 to 100, not 0.5"),
        ({"guidance": float("nan")}, "guidance must be"),
        ({"seconds": 0.01}, "seconds must be a number from 0.04"),
        ({"candidates": 0}, "candidates must be a whole number from 1"),
        ({"eta": 2.0}, "eta must be a number from 0 to 1"),
    ],
)
def test_arguments_out_of_range(networks, change, sentence):
    with pytest.raises(UserError, match=sentence):
        generate(PROMPT, networks, **({"seconds": 0.32, "steps": 1} | change))


def test_the_command_writes_what_the_function_makes(tiny_checkpoint, networks, tmp_path, capsys):
    import soundfile

    output = tmp_path / "rain.wav"
    arguments = ["generate", PROMPT, str(output), "--checkpoint", str(tiny_checkpoint)]
    arguments += ["--steps", "2", "--seconds", "0.32", "--candidates", "2", "--seed", "4"]
    arguments += ["--level", "as-made"]
    assert main(arguments) == 0
    written, rate = soundfile.read(output, dtype="float32")
    made = generate(PROMPT, networks, steps=2, seconds=0.32, seed=4, candidates=2)
    assert rate == 16000
    assert abs(torch.from_numpy(written) - made.audio[0]).max() < 1e-4
    said = capsys.readouterr()
    assert "0.32 s, 8 UNet calls, CLAP similarity" in said.out
    assert "2/2" in said.err


def test_several_prompts_and_seeds_are_what_each_is_alone(tiny_checkpoint, tmp_path, capsys):
    import soundfile

    common = ["--checkpoint", str(tiny_checkpoint), "--steps", "2", "--seconds", "0.32"]
    several = tmp_path / "sounds"
    assert main(["generate", PROMPT, "a dog!", str(several), "--seeds", "2", *common]) == 0
    names = sorted(path.name for path in several.iterdir())
    assert names == [f"{n}-{name}-{s}.wav" for n, name in ((1, SLUG), (2, "a-dog")) for s in (0, 1)]
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 4
    assert "4/4" in said.err
    alone = tmp_path / "alone.wav"
    assert main(["generate", "a dog!", str(alone), "--seed", "1", *common]) == 0
    both = [soundfile.read(path)[0] for path in (alone, several / "2-a-dog-1.wav")]
    np.testing.assert_array_equal(*both)
    assert np.abs(both[0] - both[0].mean()).max() == pytest.approx(0.5, abs=1e-3)
    others = [soundfile.read(several / name)[0] for name in names]
    assert all(np.abs(a - b).max() > 0.01 for a, b in itertools.combinations(others, 2))


def test_several_sounds_need_a_folder_and_a_silent_one_is_told(
    tiny_checkpoint, tmp_path, capsys, monkeypatch
):
    assert main(["generate", "a", "b", str(tmp_path / "x.wav")]) == 2
    assert "2 sounds need a folder" in capsys.readouterr().err
    late = ["--seeds", "9", "--seed", str(2**28 - 1)]
    assert main(["generate", "a", str(tmp_path / "x"), *late]) == 2
    assert "--seed, with --seeds, must be" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(command, "QUIET", 0.0)
    common = ["--checkpoint", str(tiny_checkpoint), "--steps", "1", "--seconds", "0.16"]
    assert main(["generate", "a", str(tmp_path / "x.wav"), *common]) == 0
    assert "all but silent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["--sampler", "euler"], "there is no sampler 'euler'"),
        (["--checkpoint", "no/such/folder"], "there is no checkpoint folder no/such/folder"),
        (["--codebook", "gaussian"], ".ddcm files belong to --sampler ddcm"),
    ],
)
def test_the_command_refuses_with_one_sentence(
    tiny_checkpoint, tmp_path, capsys, changes, sentence
):
    output = tmp_path / "rain.wav"
    arguments = ["generate", PROMPT, str(output), "--checkpoint", str(tiny_checkpoint)]
    assert main([*arguments, *changes]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert sentence in lines[0]
    assert not list(tmp_path.iterdir())
    assert main(["generate", PROMPT, str(tmp_path / "rain.txt")]) == 2


@pytest.mark.parametrize("scale", [0.0, 1e-8])
def test_silence_is_told_and_written_as_it_is(tmp_path, capsys, scale):
    import soundfile

    sound = scale * np.sin(np.arange(1600, dtype=np.float32))
    command._save(tmp_path / "x.wav", sound, 16000, "peak")
    assert "all but silent" in capsys.readouterr().err
    assert not soundfile.read(tmp_path / "x.wav")[0].any()


def test_several_sounds_are_made_in_the_precision_that_was_asked_for(
    tiny_checkpoint, tmp_path, monkeypatch
):
    loaded, load = [], checkpoints.load
    monkeypatch.setattr(checkpoints, "fast_dtype", lambda device: torch.bfloat16)
    monkeypatch.setattr(checkpoints, "load", lambda *a: loaded.append(a) or load(*a))
    common = ["--checkpoint", str(tiny_checkpoint), "--steps", "1", "--seconds", "0.16"]
    several = ["generate", "a", "b", str(tmp_path / "x"), "--precision", "half"]
    assert main([*several, *common]) == 0
    assert [given[3] for given in loaded] == [torch.bfloat16]
