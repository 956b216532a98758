import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from audioldm_utils.errors import UserError
from audioldm_utils.model import checkpoint as checkpoints
from audioldm_utils.model import checkpoint_files
from audioldm_utils.model.checkpoint_fingerprint import fingerprint
from audioldm_utils.model.checkpoint_weights import choose_weights
from tests import tiny


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    """A checkpoint that a test may damage."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_loads_only_what_is_named_and_the_rest_on_demand(tiny_checkpoint):
    loaded = checkpoints.load(tiny_checkpoint)
    assert loaded.loaded == ("vae", "vocoder")
    assert loaded.present == checkpoints.COMPONENTS
    assert not loaded.vae.training
    assert not any(p.requires_grad for p in loaded.vae.parameters())
    assert loaded.unet.config.in_channels == 8
    assert "unet" in loaded.loaded
    loaded.unload("unet", "vae")
    assert loaded.loaded == ("vocoder",)


def test_unloading_frees_the_weights(tiny_checkpoint):
    import gc
    import weakref

    loaded = checkpoints.load(tiny_checkpoint, components=("text_encoder_2",))
    network = weakref.ref(loaded.part("text_encoder_2"))
    loaded.unload("text_encoder_2")
    gc.collect()
    assert network() is None


def test_vae_and_vocoder_alone_are_a_valid_checkpoint(tiny_codec):
    loaded = checkpoints.load(tiny_codec, components=("vae", "vocoder"))
    assert loaded.present == ("vae", "vocoder")
    with pytest.raises(UserError, match=r"no component 'unet' \(it has: vae, vocoder\)"):
        _ = loaded.unet


def test_channels_last_is_asked_for_and_ends_with_unloading(tiny_checkpoint):
    def is_last(unet):
        return unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)

    loaded = checkpoints.load(tiny_checkpoint, ())
    assert not is_last(loaded.unet)
    loaded.use_channels_last()
    assert is_last(loaded.unet)
    loaded.unload("unet")
    assert not is_last(loaded.unet)


def test_scaling_factor_is_read(tiny_checkpoint, copy):
    assert checkpoints.load(tiny_checkpoint, ()).scaling_factor == 0.37
    edit_json(copy / "vae" / "config.json", scaling_factor=0.5)
    assert checkpoints.load(copy, ()).scaling_factor == 0.5


def test_scheduler_configuration_has_the_published_values(tiny_checkpoint):
    config = checkpoints.load(tiny_checkpoint, ()).scheduler_config
    assert {key: config[key] for key in tiny.SCHEDULER} == tiny.SCHEDULER
    assert config["timestep_spacing"] == "leading"


def test_plain_diffusers_loads_the_same_folder(tiny_checkpoint):
    from diffusers import AudioLDM2Pipeline

    plain = AudioLDM2Pipeline.from_pretrained(tiny_checkpoint)
    ours = checkpoints.load(tiny_checkpoint, checkpoints.COMPONENTS).pipeline()
    for name in ("vae", "unet", "language_model", "text_encoder"):
        expected = getattr(plain, name).state_dict()
        found = getattr(ours, name).state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_published_index_with_gpt2model_gets_its_mend(tiny_checkpoint, tmp_path):
    from transformers import GPT2LMHeadModel

    published = tiny.as_published(tiny_checkpoint, tmp_path / "published")
    mended = checkpoints.load(published, ("language_model",)).part("language_model")
    expected = checkpoints.load(tiny_checkpoint, ("language_model",)).part("language_model")
    assert isinstance(mended, GPT2LMHeadModel)
    for key, value in expected.state_dict().items():
        assert torch.equal(mended.state_dict()[key], value), key
    assert mended.config.max_new_tokens == 8


LAYOUTS = {
    "bin": {"safe_serialization": False},
    "sharded": {"max_shard_size": "20KB"},
    "fp16": {"variant": "fp16"},
    "fp16 sharded": {"variant": "fp16", "max_shard_size": "20KB"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["vae", "vocoder", "text_encoder"])
def test_every_published_layout_gives_the_same_weights(tiny_checkpoint, tmp_path, layout, name):
    published = getattr(checkpoints.load(tiny_checkpoint).pipeline((name,)), name)
    expected = checkpoints.load(tiny_checkpoint, (name,)).part(name)
    options = dict(LAYOUTS[layout])
    if name in ("vocoder", "text_encoder") and not options.pop("safe_serialization", True):
        # transformers 5 no longer writes this format, but still reads it.
        folder = shutil.copytree(tiny_checkpoint / name, tmp_path / name)
        (folder / "model.safetensors").unlink()
        torch.save(expected.state_dict(), folder / "pytorch_model.bin")
    else:
        published.save_pretrained(tmp_path / name, **options)
    files = {path.name for path in (tmp_path / name).iterdir()}
    assert not files & {"model.safetensors", "diffusion_pytorch_model.safetensors"}
    found = checkpoints.load(tmp_path, (name,)).part(name)
    for key, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[key], value), key


def test_half_precision_prefers_its_own_files(tiny_checkpoint, copy):
    vae = checkpoints.load(tiny_checkpoint).pipeline(("vae",)).vae
    vae.half().save_pretrained(copy / "vae", variant="fp16")
    names = os.listdir(copy / "vae")
    assert choose_weights(names).variant is None
    assert choose_weights(names, half=True).variant == "fp16"
    assert checkpoints.load(copy, ("vae",), dtype=torch.float16).vae.dtype == torch.float16
    assert checkpoints.load(copy, ("vae",)).vae.dtype == torch.float32


def test_fingerprint_covers_weights_and_configuration_only(tiny_checkpoint, copy):
    original = checkpoints.load(tiny_checkpoint, ()).fingerprint
    assert len(original) == 64
    assert fingerprint(copy) == original
    (copy / "README.md").write_text("a card")
    (copy / "vae" / "README.md").write_text("a card")
    torch.save({}, copy / "vae" / "diffusion_pytorch_model.bin")
    assert fingerprint(copy) == original
    edit_json(copy / "vae" / "config.json", scaling_factor=0.5)
    changed = fingerprint(copy)
    assert changed != original
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert fingerprint(copy) not in (original, changed)


def test_mini_is_found_by_the_variable_and_by_the_working_folder(
    tiny_checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setenv(checkpoint_files.MINI_VARIABLE, str(tiny_checkpoint))
    loaded = checkpoints.load("mini", ())
    assert (loaded.name, loaded.path) == ("mini", tiny_checkpoint)
    monkeypatch.setenv(checkpoint_files.MINI_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"AUDIOLDM_UTILS_MINI names .*nowhere"):
        checkpoints.load("mini")
    monkeypatch.delenv(checkpoint_files.MINI_VARIABLE)
    monkeypatch.setattr(checkpoint_files, "__file__", str(tmp_path / "site" / "x" / "y.py"))
    (tmp_path / "clone" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "clone" / "notebooks")
    with pytest.raises(UserError, match="'mini' was not found"):
        checkpoints.load("mini")
    shutil.copytree(tiny_checkpoint, tmp_path / "clone" / "data" / "checkpoints" / "mini")
    assert checkpoints.load("mini", ()).path.parts[-3:] == ("data", "checkpoints", "mini")


def test_a_folder_called_mini_does_not_stand_in_for_the_shipped_one(
    tiny_checkpoint, tmp_path, monkeypatch, caplog
):
    shutil.copytree(tiny_checkpoint, tmp_path / "mini")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(checkpoint_files.MINI_VARIABLE, str(tiny_checkpoint))
    assert checkpoints.load("mini", ()).path == tiny_checkpoint
    assert caplog.messages == [
        f"'mini' is the shipped checkpoint in {tiny_checkpoint}; the folder {tmp_path / 'mini'} has"
        " the same name and is left out (write ./mini to use it)"
    ]
    assert checkpoints.load("./mini", ()).path.resolve() == tmp_path / "mini"
    assert checkpoints.load(tmp_path / "mini", ()).path == tmp_path / "mini"
    # The shipped one itself, seen from its own folder, is no other.
    monkeypatch.setenv(checkpoint_files.MINI_VARIABLE, str(tmp_path / "mini"))
    checkpoints.load("mini", ())
    assert len(caplog.messages) == 1
    # Where there is no shipped one, the folder is what is meant.
    monkeypatch.delenv(checkpoint_files.MINI_VARIABLE)
    monkeypatch.setattr(checkpoint_files, "__file__", str(tmp_path / "site" / "x" / "y.py"))
    assert checkpoints.load("mini", ()).path.resolve() == tmp_path / "mini"


# What is refused, each with one sentence.


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no/such/folder", "there is no checkpoint folder no/such/folder"),
        ("./missing", "there is no checkpoint folder missing"),
    ],
)
def test_a_missing_folder(name, sentence):
    with pytest.raises(UserError, match=sentence):
        checkpoints.load(name)


def test_a_file_instead_of_a_folder(tmp_path):
    (tmp_path / "audioldm2.ckpt").write_bytes(b"x")
    with pytest.raises(UserError, match="is a file, but a checkpoint is a folder"):
        checkpoints.load(tmp_path / "audioldm2.ckpt")


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="is not a checkpoint"):
        checkpoints.load(tmp_path)


def test_audioldm_1_is_named_as_unsupported(copy):
    edit_json(copy / "model_index.json", _class_name="AudioLDMPipeline")
    with pytest.raises(UserError, match="is an AudioLDM 1 checkpoint, which is unsupported"):
        checkpoints.load(copy)
    edit_json(copy / "model_index.json", _class_name="StableDiffusionPipeline")
    with pytest.raises(UserError, match="is a StableDiffusionPipeline checkpoint"):
        checkpoints.load(copy)
    (copy / "model_index.json").unlink()
    edit_json(copy / "unet" / "config.json", _class_name="UNet2DConditionModel")
    with pytest.raises(UserError, match="as AudioLDM 1 has, which is unsupported"):
        checkpoints.load(copy)


def test_a_speech_checkpoint_is_named_as_unsupported(copy):
    edit_json(copy / "text_encoder_2" / "config.json", model_type="vits")
    with pytest.raises(UserError, match=r"model_type vits \(not t5\)"):
        checkpoints.load(copy, ("text_encoder_2",))


@pytest.mark.parametrize(
    ("component", "change", "sentence"),
    [
        ("vocoder", {"model_in_dim": 80}, r"model_in_dim 80 \(not 64\)"),
        ("vocoder", {"sampling_rate": 22050}, r"sampling_rate 22050 \(not 16000\)"),
        ("vocoder", {"upsample_rates": [4, 4, 4, 4]}, r"product of upsample_rates 256 \(not 160\)"),
        ("vae", {"latent_channels": 4}, r"latent_channels 4 \(not 8\)"),
        ("vae", {"block_out_channels": [8, 8]}, r"downsampling 2 \(not 4\)"),
        ("unet", {"in_channels": 4}, r"in_channels 4 \(not 8\)"),
    ],
)
def test_another_geometry(copy, component, change, sentence):
    edit_json(copy / component / "config.json", **change)
    with pytest.raises(UserError, match=sentence):
        checkpoints.load(copy, (component,))


def test_damaged_weights(copy):
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-10], whole[:100], b"", whole + b"more", b"\xff" * 200):
        weights.write_bytes(damaged)
        with pytest.raises(UserError, match=r"diffusion_pytorch_model.safetensors is truncated or"):
            checkpoints.load(copy, ("vae",))
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UserError, match="is a Git LFS pointer"):
        checkpoints.load(copy, ("vae",))
    weights.unlink()
    with pytest.raises(UserError, match="holds no weights"):
        checkpoints.load(copy, ("vae",))


def test_a_damaged_pickle(copy):
    vae = checkpoints.load(copy).pipeline(("vae",)).vae
    vae.save_pretrained(copy / "vae", safe_serialization=False)
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    weights = copy / "vae" / "diffusion_pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"diffusion_pytorch_model.bin is truncated or corrupt"):
        checkpoints.load(copy, ("vae",))


def test_a_missing_shard(tiny_checkpoint, copy):
    vae = checkpoints.load(tiny_checkpoint).pipeline(("vae",)).vae
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    vae.save_pretrained(copy / "vae", max_shard_size="20KB")
    next((copy / "vae").glob("*-00002-of-*")).unlink()
    with pytest.raises(UserError, match="weight shards: copy or download the missing ones"):
        checkpoints.load(copy, ("vae",))


def test_weights_that_do_not_fit_their_configuration(copy):
    from safetensors.torch import load_file, save_file

    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    state.pop("conv_in.weight")
    save_file(state, weights)
    with pytest.raises(UserError, match=r"1 tensors are missing, such as conv_in.weight"):
        checkpoints.load(copy, ("unet",))
    edit_json(copy / "vae" / "config.json", block_out_channels=[8, 8, 32])
    with pytest.raises(UserError, match=r"vae cannot be loaded as AutoencoderKL"):
        checkpoints.load(copy, ("vae",))


def test_missing_and_broken_configuration(copy):
    (copy / "vae" / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is not a JSON object"):
        checkpoints.load(copy, ("vae",))
    (copy / "vae" / "config.json").unlink()
    with pytest.raises(UserError, match=r"config.json is missing"):
        checkpoints.load(copy, ("vae",))


def test_a_device_that_is_not_there(tiny_checkpoint):
    with pytest.raises(UserError, match=r"the device must be cpu, cuda, .*, not 'abacus'"):
        checkpoints.load(tiny_checkpoint, device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="'cuda' is not available on this machine"):
            checkpoints.load(tiny_checkpoint, device="cuda")


def test_the_fast_precision_is_one_that_the_processor_has():
    has = torch.cpu.get_capabilities()
    expected = torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") else torch.float32
    if has["architecture"] == "x86_64":
        assert checkpoints.fast_dtype("cpu") == expected


def test_a_revision_belongs_to_a_hub_id(tiny_checkpoint):
    with pytest.raises(UserError, match="a revision belongs to a hub id"):
        checkpoints.load(tiny_checkpoint, revision="main")
    with pytest.raises(UserError, match="two revisions"):
        checkpoints.load("someone/model@a", revision="b")
    with pytest.raises(ValueError, match="components must be among"):
        checkpoints.load(tiny_checkpoint, ("encoder",))


# The hub, without a network.

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tiny_checkpoint, tmp_path, monkeypatch):
    """A hub cache that holds the tiny checkpoint as someone/tiny."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(tiny_checkpoint, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return repository


def test_a_cached_hub_checkpoint_needs_no_network(hub, tiny_checkpoint):
    for name in ("someone/tiny", f"someone/tiny@{COMMIT}"):
        loaded = checkpoints.load(name)
        assert (loaded.name, loaded.revision) == ("someone/tiny", COMMIT)
        assert loaded.fingerprint == fingerprint(tiny_checkpoint)
    assert checkpoints.load("someone/tiny", revision="main").revision == COMMIT


def test_a_hub_checkpoint_that_is_not_cached_says_what_to_do(hub):
    with pytest.raises(UserError, match=r"'someone/else' is neither .* 'hf download someone/else'"):
        checkpoints.load("someone/else")
    shutil.rmtree(hub / "snapshots" / COMMIT / "vae")
    with pytest.raises(UserError, match="nor in the hub cache"):
        checkpoints.load("someone/tiny")


@pytest.mark.processes
def test_without_a_network_and_without_the_offline_variable(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path)}
    script = "from audioldm_utils.model import checkpoint; checkpoint.load('cvssp/audioldm2')"
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "UserError: 'cvssp/audioldm2' is neither a folder here" in result.stderr


def test_loading_leaves_the_global_random_state_alone(tiny_checkpoint):
    before = torch.get_rng_state()
    checkpoints.load(tiny_checkpoint, checkpoints.COMPONENTS)
    assert torch.equal(torch.get_rng_state(), before)
