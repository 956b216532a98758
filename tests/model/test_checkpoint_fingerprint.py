"""The fingerprint is that of the tensors, whatever files hold them, and is remembered."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from audioldm_utils.errors import UserError
from audioldm_utils.model import checkpoint as checkpoints
from audioldm_utils.model import checkpoint_fingerprint as prints
from audioldm_utils.model.checkpoint_fingerprint import CACHE, fingerprint
from tests import tiny


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy", ignore=shutil.ignore_patterns(CACHE))


@pytest.fixture
def hashed(monkeypatch):
    """Components whose tensors were read, not remembered."""
    seen = []
    plain = prints._tensors_digest
    monkeypatch.setattr(
        prints, "_tensors_digest", lambda folder, w: seen.append(folder.name) or plain(folder, w)
    )
    monkeypatch.setattr(prints, "_KNOWN", {})
    return seen


def age(folder):
    """Give all files an old time: those of now are not remembered."""
    for path in folder.glob("*/*"):
        os.utime(path, ns=(10**18, 10**18))


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def as_bin(folder, name, state):
    for path in (folder / name).glob("*.safetensors"):
        path.unlink()
    kind = "diffusion_pytorch_model" if name in ("vae", "unet") else "pytorch_model"
    torch.save(state, folder / name / f"{kind}.bin")


def test_the_same_tensors_in_any_format_are_the_same_checkpoint(tiny_checkpoint, copy):
    expected = fingerprint(tiny_checkpoint)
    for name in ("vae", "vocoder", "text_encoder", "text_encoder_2", "language_model"):
        # A state_dict has what safetensors leave out: doubles of tied tensors.
        as_bin(copy, name, checkpoints.load(tiny_checkpoint, (name,)).part(name).state_dict())
    assert list(copy.glob("*/pytorch_model.bin"))
    assert fingerprint(copy) == expected
    unet = checkpoints.load(tiny_checkpoint, ("unet",)).unet
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(copy / "unet", max_shard_size="20KB")
    assert fingerprint(copy) == expected
    as_bin(copy, "unet", unet.state_dict())
    (copy / "unet" / "diffusion_pytorch_model.safetensors.index.json").unlink()
    for path in (copy / "unet").glob("*"):
        assert path.name in ("config.json", "diffusion_pytorch_model.bin")
    assert fingerprint(copy) == expected


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_a_wider_type_of_the_same_numbers_is_the_same_checkpoint(tiny_codec, tmp_path, kind):
    narrow, wide = tmp_path / "narrow", tmp_path / "wide"
    for folder in (narrow, wide):
        shutil.copytree(tiny_codec, folder)
        path = folder / "vae" / "diffusion_pytorch_model.safetensors"
        smaller = torch.float32 if kind == torch.float64 else kind
        state = {name: tensor.to(smaller) for name, tensor in load_file(path).items()}
        if folder == wide:
            bigger = kind if kind == torch.float64 else torch.float32
            state = {name: tensor.to(bigger) for name, tensor in state.items()}
        save_file(state, path, metadata={"format": "pt"})
    assert fingerprint(narrow) == fingerprint(wide)
    assert (fingerprint(narrow) == fingerprint(tiny_codec)) == (kind == torch.float64)


def test_entries_that_change_nothing_do_not_count_and_others_do(tiny_checkpoint, copy):
    expected = fingerprint(tiny_checkpoint)
    config = copy / "vocoder" / "config.json"
    edit_json(config, dtype="float16", torch_dtype="float16", transformers_version="9.9")
    edit_json(copy / "vae" / "config.json", _diffusers_version="9.9", _name_or_path="/home/x")
    content = json.loads((copy / "unet" / "config.json").read_text())
    (copy / "unet" / "config.json").write_text(json.dumps(dict(reversed(content.items()))))
    edit_json(copy / "model_index.json", language_model=["transformers", "GPT2Model"])
    assert fingerprint(copy) == expected
    seen = {expected}
    for component, entry, value in [
        ("vocoder", "leaky_relu_slope", 0.2),
        ("vae", "scaling_factor", 0.38),
        ("unet", "norm_eps", 1e-4),
    ]:
        edit_json(copy / component / "config.json", **{entry: value})
        seen.add(fingerprint(copy))
    edit_json(copy / "scheduler" / "scheduler_config.json", beta_end=0.02)
    seen.add(fingerprint(copy))
    tokens = copy / "tokenizer" / "tokenizer.json"
    edit_json(tokens, model=json.loads(tokens.read_text())["model"] | {"dtype": 1})
    seen.add(fingerprint(copy))
    assert len(seen) == 6


def test_name_shape_and_value_of_a_tensor_count(tiny_codec, tmp_path):
    folder = shutil.copytree(tiny_codec, tmp_path / "codec")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    bias = state.pop("encoder.conv_in.bias")
    seen = {fingerprint(tiny_codec)}
    for changed in (
        {"other.bias": bias},
        {"encoder.conv_in.bias": bias.reshape(2, -1)},
        {"encoder.conv_in.bias": torch.nextafter(bias, bias + 1)},
        {},
    ):
        save_file(state | changed, path, metadata={"format": "pt"})
        seen.add(fingerprint(folder))
    assert len(seen) == 5


def test_digests_are_remembered_beside_the_checkpoint(copy, hashed, monkeypatch):
    age(copy)
    with monkeypatch.context() as patch:
        patch.setattr(prints, "time", SimpleNamespace(time_ns=lambda: 10**18))
        first = fingerprint(copy)
    assert "vae" in hashed
    assert not (copy / CACHE).exists()  # files of that very moment might change once more
    assert fingerprint(copy) == first
    assert len(json.loads((copy / CACHE).read_text())["components"]) == 7
    hashed.clear()
    monkeypatch.setattr(prints, "_KNOWN", {})
    assert fingerprint(copy) == first
    assert not hashed


def test_a_changed_file_is_noticed(copy, hashed):
    age(copy)
    first = fingerprint(copy)
    path = copy / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert fingerprint(copy) != first
    # The same size and an old time do not deceive it, in this process or another.
    age(copy)
    hashed.clear()
    assert fingerprint(copy) != first
    assert hashed == ["vae", "vocoder", "unet", *tiny_text()]
    prints._KNOWN.clear()
    assert fingerprint(copy) != first
    # In other files the digest of the old ones does not count.
    content[-1] ^= 1
    path.write_bytes(content)
    assert fingerprint(copy) == first


def tiny_text():
    return "text_encoder", "text_encoder_2", "language_model", "projection_model"


def test_where_one_cannot_write_the_users_cache_remembers(copy, hashed, tmp_path, monkeypatch):
    monkeypatch.setattr(prints, "user_cache", lambda: tmp_path / "cache")
    plain = prints.atomic_write

    def write(path, content):
        if copy in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        plain(path, content)

    monkeypatch.setattr(prints, "atomic_write", write)
    age(copy)
    first = fingerprint(copy)
    assert not (copy / CACHE).exists()
    prints._KNOWN.clear()
    hashed.clear()
    assert fingerprint(copy) == first
    assert not hashed
    # Nowhere at all: hashed once a process.
    monkeypatch.setattr(prints, "user_cache", lambda: copy / "nowhere")
    prints._KNOWN.clear()
    assert fingerprint(copy) == first
    assert fingerprint(copy) == first
    assert hashed == ["vae", "vocoder", "unet", *tiny_text()]


@pytest.mark.parametrize("content", ["", "[]", '{"version": 1}', '{"version": 1, "components": 3}'])
def test_a_broken_cache_is_made_again(copy, content):
    first = fingerprint(copy)
    (copy / CACHE).write_text(content)
    age(copy)
    prints._KNOWN.clear()
    assert fingerprint(copy) == first
    assert json.loads((copy / CACHE).read_text())["version"] == 1


def test_a_damaged_pickle_has_no_fingerprint(copy):
    as_bin(copy, "vae", {"a": torch.zeros(3)})
    path = copy / "vae" / "diffusion_pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"diffusion_pytorch_model.bin is truncated or corrupt"):
        fingerprint(copy)


def test_the_published_layout_has_the_same_fingerprint_of_what_it_shares(tiny_checkpoint, tmp_path):
    published = tiny.as_published(tiny_checkpoint, tmp_path / "published")
    parts = ("vae", "vocoder", "unet")
    assert fingerprint(published, parts) == fingerprint(tiny_checkpoint, parts)
