"""The gate of checkpoints: whatever is written in one, it loads or is refused in a sentence."""

import copy as copies
import json
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from audioldm_utils.audio import clips as audio
from audioldm_utils.cli.main import main
from audioldm_utils.errors import UserError
from audioldm_utils.model import checkpoint as checkpoints
from audioldm_utils.model.checkpoint_checks import check_types
from audioldm_utils.model.checkpoint_files import component_class
from audioldm_utils.model.checkpoint_weights import read_shapes
from tests import tiny
from tests.sounds import RATE, noise_clip

HOSTILE = [
    *(None, True, -1, 0, 1, 3, 1000, 10**9, 10**18, 1.5, -2.5, float("nan"), 1e999),
    *("", "x", "relu", "a\nb", [], [0], [-1], [1, 2, 3], ["x"], [[1]], [None], [1] * 64),
    *({}, {"a": 1}),
]


@pytest.fixture(scope="module")
def victim(tiny_checkpoint, tmp_path_factory):
    """A checkpoint whose files are changed and put back."""
    return shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("gate") / "victim")


def entries(folder):
    """(component, file, keys that lead to an entry) of every configuration."""
    for path in sorted(folder.glob("*/*config.json")):
        content = json.loads(path.read_text())
        for key, value in content.items():
            yield path, (key,)
            if isinstance(value, dict):
                yield from ((path, (key, inner)) for inner in value)


def refused(folder, component, *, needs=()):
    """The sentence with which loading is refused, or None if it is not."""
    try:
        checkpoints.load(folder, needs or (component,))
    except UserError as error:
        sentence = str(error)
        assert "\n" not in sentence
        assert str(folder) in sentence
        assert component in sentence
        assert len(sentence) < 1000
        return sentence
    return None


@given(st.data())
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_entry_of_any_configuration_with_any_value(victim, data):
    path, keys = data.draw(st.sampled_from(list(entries(victim))))
    before = path.read_text()
    content = json.loads(before)
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = data.draw(st.sampled_from(HOSTILE))
    path.write_text(json.dumps(content))
    try:
        refused(victim, path.parent.name)
    finally:
        path.write_text(before)


@pytest.mark.parametrize(
    ("component", "entry", "value", "said"),
    [
        ("vae", "block_out_channels", 5, "block_out_channels is 5, not a list"),
        ("vae", "layers_per_block", -1, "layers_per_block is -1, which no AudioLDM2 has"),
        ("vae", "norm_num_groups", 0, "its configuration gives none that works"),
        ("vae", "scaling_factor", float("nan"), "a number that is not finite"),
        ("vae", "scaling_factor", 0, "scaling_factor of 0: it must be positive"),
        ("vae", "scaling_factor", "0.5", "scaling_factor is '0.5', not a number"),
        ("vae", "scaling_factor", True, "scaling_factor is True, not a number"),
        ("vae", "act_fn", "sigh", "gives none that works"),
        ("vocoder", "upsample_rates", "5", "upsample_rates"),
        ("unet", "downsample_padding", 1000, "gives none that works"),
        ("language_model", "n_layer", 5000, "far larger network than its weights"),
        ("unet", "block_out_channels", [800, 1600], "far larger network than its weights"),
        ("unet", "attention_head_dim", [[2, 2], [2]], "gives none that works"),
        ("text_encoder_2", "num_layers", 2, "do not fit its config.json"),
        ("language_model", "n_embd", 64, "has the shape"),
        ("tokenizer", "model_max_length", 10**30, "which no AudioLDM2 has"),
        ("scheduler", "_class_name", "AudioLDM2Pipeline", "none of the diffusers schedulers"),
        ("scheduler", "_class_name", "ModelMixin", "none of the diffusers schedulers"),
        ("scheduler", "_class_name", ["DDIMScheduler"], "none of the diffusers schedulers"),
        ("scheduler", "beta_end", 2, "no noise schedule"),
        ("scheduler", "beta_schedule", "x", "beta_schedule 'x' is not known"),
        ("scheduler", "num_train_timesteps", 0, "no noise schedule"),
    ],
)
def test_hostile_configurations_by_name(victim, component, entry, value, said):
    path = victim / component / "config.json"
    if not path.exists():
        path = next((victim / component).glob("*_config.json"))
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {entry: value}))
    try:
        assert said in refused(victim, component)
        # The gate stands before all loading: what is needed first says so as well.
        if said != "do not fit its config.json":
            assert said in refused(victim, component, needs=("vae",))
    finally:
        path.write_text(before)


def test_a_weight_that_the_network_has_no_place_for(victim):
    path = victim / "text_encoder_2" / "config.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"num_layers": 0}))
    try:
        assert "tensors have no place in it" in refused(victim, "text_encoder_2")
    finally:
        path.write_text(before)


def test_published_configurations_have_the_types_that_are_asked_for(tiny_checkpoint):
    """Entries as ``cvssp/audioldm2`` has them, some not as diffusers annotates them."""
    published = {
        "vae": {"sample_size": 1024, "block_out_channels": [128, 256, 512], "force_upcast": True},
        "unet": {
            "sample_size": [256, 16],
            "attention_head_dim": [4, 8, 12, 20],
            "cross_attention_dim": [[None, 768, 1024]] * 4,
            "mid_block_scale_factor": 1,
            "only_cross_attention": False,
            "class_embed_type": None,
        },
        "scheduler": {"trained_betas": None, "skip_prk_steps": True, "clip_sample_range": 1},
        "tokenizer": {"model_max_length": 512, "add_prefix_space": False},
    }
    for name, config in published.items():
        folder = tiny_checkpoint / name
        check_types(folder, component_class(name, folder), config)


def test_every_scheduler_that_diffusers_counts_as_one_is_allowed(victim):
    from diffusers.schedulers import KarrasDiffusionSchedulers

    path = victim / "scheduler" / "scheduler_config.json"
    before = path.read_text()
    loaded = 0
    try:
        for kind in KarrasDiffusionSchedulers:
            path.write_text(json.dumps(tiny.SCHEDULER | {"_class_name": kind.name}))
            said = refused(victim, "scheduler")
            loaded += said is None
            assert said is None or "requires the torchsde library" in said
    finally:
        path.write_text(before)
    assert loaded >= 14


# Damaged files.

HEADERS = {
    "a number": b'{"a":1}',
    "no offsets": b'{"a":{"dtype":"F32"}}',
    "offsets are text": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":["x","y"]}}',
    "a negative shape": b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
    "true as a number": b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}',
    "another length": b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
    "an unknown type": b'{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}',
    "a list of types": b'{"a":{"dtype":[],"shape":[1],"data_offsets":[0,4]}}',
    "overlapping": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "a gap": b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}}',
    "a list": b"[1]",
    "deep": b"[" * 100_000,
    "not text": b"\xff\xfe",
}


@pytest.mark.parametrize("header", HEADERS)
def test_broken_safetensors_headers(victim, header):
    path = victim / "unet" / "diffusion_pytorch_model.safetensors"
    before = path.read_bytes()
    path.write_bytes(len(HEADERS[header]).to_bytes(8, "little") + HEADERS[header] + bytes(4))
    try:
        assert "is truncated or corrupt" in refused(victim, "unet", needs=("vae",))
    finally:
        path.write_bytes(before)


def test_headers_are_read_as_the_library_reads_them(tiny_checkpoint):
    for path in sorted(tiny_checkpoint.glob("*/*.safetensors")):
        found = {name: list(shape) for name, shape in read_shapes(path).items()}
        assert found == {name: list(tensor.shape) for name, tensor in load_file(path).items()}


@pytest.mark.parametrize(
    "name",
    [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "feature_extractor/preprocessor_config.json",
    ],
)
def test_missing_files_are_said_before_loading(victim, name):
    path = victim / name
    path.rename(victim / "aside")
    try:
        assert "again" in refused(victim, path.parent.name, needs=("vae",))
    finally:
        (victim / "aside").rename(path)


def test_an_index_of_other_shards(tiny_checkpoint, tmp_path):
    folder = tmp_path / "vae"
    vae = checkpoints.load(tiny_checkpoint).pipeline(("vae",)).vae
    vae.save_pretrained(folder, max_shard_size="20KB")
    index = next(folder.glob("*.index.json"))
    for content in ("[]", "{", '{"weight_map": 1}', '{"weight_map": {"a": "../elsewhere"}}'):
        index.write_text(content)
        assert "does not list the shards beside it" in refused(tmp_path, "vae")


# Weights that are no numbers.


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("component", ["vae", "vocoder", "unet", "text_encoder_2"])
def test_weights_that_are_not_finite(victim, component, value):
    path = next((victim / component).glob("*.safetensors"))
    before = path.read_bytes()
    state = load_file(path)
    name = sorted(name for name, tensor in state.items() if tensor.is_floating_point())[-1]
    state[name].view(-1)[-1] = value
    save_file(state, path, metadata={"format": "pt"})
    try:
        said = refused(victim, component)
    finally:
        path.write_bytes(before)
    assert "hold numbers that are not finite" in said
    assert name in said


def test_weights_that_are_too_large_for_half_precision(victim):
    path = next((victim / "vae").glob("*.safetensors"))
    before = path.read_bytes()
    state = copies.deepcopy(load_file(path))
    state["encoder.conv_in.bias"][0] = 1e6
    save_file(state, path, metadata={"format": "pt"})
    try:
        checkpoints.load(victim, ("vae",))
        with pytest.raises(UserError, match="not finite as float16"):
            checkpoints.load(victim, ("vae",), dtype=torch.float16)
    finally:
        path.write_bytes(before)


def test_stream_refuses_weights_that_are_not_finite(victim, tmp_path, capsys):
    path = next((victim / "vae").glob("*.safetensors"))
    before = path.read_bytes()
    state = load_file(path)
    state["decoder.conv_in.bias"][0] = float("nan")
    save_file(state, path, metadata={"format": "pt"})
    sound = tmp_path / "in.wav"
    audio.save(sound, noise_clip(), RATE)
    try:
        out = tmp_path / "out.wav"
        assert main(["stream", str(sound), str(out), "--checkpoint", str(victim)]) == 2
    finally:
        path.write_bytes(before)
    assert not out.exists()
    assert f"the weights of {victim / 'vae'} hold numbers" in capsys.readouterr().err
