"""VAE and vocoder in plain torch equal the published classes to the last bit."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from audioldm_utils.errors import UserError
from audioldm_utils.model import checkpoint as checkpoints
from audioldm_utils.model import checkpoint_checks
from tests import tiny


def mels(dtype=torch.float32):
    return torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(0)).to(dtype)


def both(folder, name, dtype=torch.float32):
    checkpoint = checkpoints.load(folder, dtype=dtype)
    return getattr(checkpoint, name), getattr(checkpoint.pipeline((name,)), name)


def assert_same_vae(folder, dtype=torch.float32):
    ours, published = both(folder, "vae", dtype)
    mel = mels(dtype)[:, None]
    latents = published.encode(mel).latent_dist.mode()
    assert torch.equal(ours.encode(mel), latents)
    assert torch.equal(ours.decode(latents), published.decode(latents).sample)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vae_with_attention_equals_diffusers(tiny_checkpoint, dtype):
    assert_same_vae(tiny_checkpoint, dtype)


def test_vae_and_vocoder_of_mini_equal_the_libraries():
    assert_same_vae("mini")
    ours, published = both("mini", "vocoder")
    assert torch.equal(ours(mels()), published(mels()))


@pytest.mark.parametrize("normalise", [False, True])
def test_vocoder_equals_transformers(tiny_checkpoint, tmp_path, normalise):
    made = tiny.vocoder(
        resblock_kernel_sizes=[3, 7],
        resblock_dilation_sizes=[[1, 3], [1, 5]],
        normalize_before=normalise,
        leaky_relu_slope=0.2,
    )
    made.mean += 0.3
    made.save_pretrained(tmp_path / "vocoder")
    shutil.copytree(tiny_checkpoint / "vae", tmp_path / "vae")
    ours, published = both(tmp_path, "vocoder")
    assert torch.equal(ours(mels()), published(mels()))


def test_attention_layers_of_old_files_are_found(tiny_checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_checkpoint, tmp_path / "old")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(path)
    for new, name in old.items():
        state = {key.replace(f".{new}.", f".{name}."): value for key, value in state.items()}
    save_file(state, path, metadata={"format": "pt"})
    expected = checkpoints.load(tiny_checkpoint).vae.state_dict()
    found = checkpoints.load(folder).vae.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_blocks_that_no_audioldm2_has_are_refused(tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"act_fn": "relu"}))
    with pytest.raises(UserError, match=r"loaded as AutoencoderKL: act_fn must be silu, not relu"):
        checkpoints.load(folder)


def test_what_was_built_once_is_not_built_again(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_checks, "user_cache", lambda: tmp_path)
    checkpoints.load(tiny_checkpoint, ())
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_checks, "check_build", None)
        checkpoints.load(tiny_checkpoint, ())
    # Another configuration, or weights of other shapes, are asked about anew.
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"downsample_padding": 1000}))
    for _ in range(2):
        with pytest.raises(UserError, match="gives none that works"):
            checkpoints.load(folder, ())


def test_without_a_cache_it_is_built_each_time(tiny_codec, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(checkpoint_checks, "user_cache", lambda: tmp_path / "file")
    checkpoints.load(tiny_codec)


def test_sound_needs_neither_diffusers_nor_transformers(tiny_codec):
    checkpoints.load(tiny_codec, ())  # its checks are passed and noted
    code = (
        "import sys, torch; from audioldm_utils.model.networks import Networks;"
        "from audioldm_utils.model.checkpoint import load;"
        f"s = Networks(load({str(tiny_codec)!r}));"
        "s.reconstruct_vae(torch.ones(1, 4000)); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"diffusers", "transformers", "torch._dynamo", "librosa", "scipy.signal"}
