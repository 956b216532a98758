"""encode, decode and inspect: the codec on files, through the command line."""

import dataclasses
import functools
import json
import math
import re
import shutil

import numpy as np
import pytest
import soundfile as sf
import torch
import tqdm

from audioldm_utils.cli.main import main
from audioldm_utils.ddcm import bitstream
from audioldm_utils.ddcm.codec import Codec
from audioldm_utils.ddcm.core import Codes
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.errors import UserError
from audioldm_utils.model import checkpoint as checkpoints
from audioldm_utils.model.networks import Networks
from audioldm_utils.studies.codebook_fits import save_kmeans

RATE = 16000


def tone(seconds=0.7, rate=RATE, level=0.1, offset=0.02):
    t = np.arange(round(seconds * rate)) / rate
    return (offset + level * np.sin(2 * math.pi * 440 * t) * np.exp(-3 * t)).astype(np.float32)


@pytest.fixture(scope="module")
def codec(tiny_checkpoint):
    return Codec(Networks(checkpoints.load(tiny_checkpoint, ())))


@pytest.fixture
def wav(tmp_path):
    sf.write(tmp_path / "in.wav", tone(0.7, 44100), 44100)
    return tmp_path / "in.wav"


SETTINGS = [
    Settings(kbps=3.0, steps=8),
    Settings(kbps=None, steps=5, atoms=3, size=2),
    Settings(kbps=None, atoms=(2, 0, 1), steps=4, codebook="gaussian", size=37),
    Settings(kbps=None, steps=4, codebook="turbo", size=50, atoms=5, seed=9),
    Settings(kbps=None, steps=4, codebook="matching-pursuit", size=20, atoms=2),
    Settings(kbps=None, timesteps=(900, 500, 20), eta=0.5),
    Settings(kbps=None, steps=3, prompt="rain", guidance=2.5, negative_prompt="noise"),
    Settings(kbps=None, steps=3, segment=6, window=12, overlap=4),
    Settings(kbps=None, steps=3, placement="log-snr", stop=0.9, selection={"temperature": 1.0}),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
def test_files_decode_to_the_encoders_latents_bit_for_bit(codec, settings):
    encoded = codec.encode(tone(), settings)
    decoded = codec.decode(encoded.data)
    assert torch.equal(decoded.latents, encoded.codes.latents)
    assert decoded.header == encoded.header
    assert decoded.samples.shape == (len(tone()),)
    assert decoded.samples.dtype == np.float32
    assert encoded.sizes.file == len(encoded.data)
    assert (
        encoded.calls
        == decoded.calls
        == encoded.header.steps * (2 if settings.guidance != 1 else 1) * len_windows(encoded)
    )


def len_windows(encoded):
    from audioldm_utils.model.windows import window_starts

    window, overlap = encoded.header.window
    frames = encoded.latents.shape[2]
    return len(window_starts(frames, window, overlap)) if window else 1


def test_a_fitted_codebook_is_named_by_its_digest(tiny_checkpoint, tmp_path):
    # What is fitted is stored beside the checkpoint, so this one is not shared.
    checkpoint = checkpoints.load(shutil.copytree(tiny_checkpoint, tmp_path / "own"), ())
    codec = Codec(Networks(checkpoint))
    generator = torch.Generator().manual_seed(0)
    store = functools.partial(save_kmeans, checkpoint.path, checkpoint.fingerprint, "k-means")
    store(torch.randn(16, 8 * 4 * 4, generator=generator), (4, 4), {})
    settings = Settings(kbps=None, steps=3, codebook="k-means")
    encoded = codec.encode(tone(), settings)
    assert torch.equal(codec.decode(encoded.data).latents, encoded.codes.latents)
    assert len(encoded.header.codebook_digest) == 8
    store(torch.randn(16, 8 * 4 * 4, generator=generator), (4, 4), {})
    with pytest.raises(UserError, match="not those of the file"):
        codec.decode(encoded.data)


@pytest.mark.parametrize("kbps", [0.9, 2.0, 8.0])
def test_the_rate_is_reached_and_never_exceeded(codec, kbps):
    x = tone(1.0)
    sizes = codec.encode(x, Settings(kbps=kbps, steps=10)).sizes
    assert sizes.kbps <= kbps
    assert sizes.kbps > kbps - 0.15  # at most one atom of 13 bits, and some of the header
    assert sizes.payload_kbps < sizes.kbps


def test_segments_share_the_rate(codec):
    settings = Settings(kbps=4.0, steps=4, segment=6, window=12, overlap=4)
    encoded = codec.encode(tone(), settings)
    assert encoded.codes.choices[0].shape[0] == 3
    assert encoded.sizes.kbps <= 4.0


def test_a_rate_that_cannot_be_paid(codec):
    with pytest.raises(UserError, match="too low"):
        codec.encode(tone(), Settings(kbps=0.05))
    with pytest.raises(UserError, match="one of"):
        codec.encode(tone(), Settings(codebook="none"))
    with pytest.raises(UserError, match=r"0\.9701"):
        codec.encode(tone(), Settings(kbps=None, placement="alpha-bar", stop=0.9701))
    with pytest.raises(UserError, match="timesteps"):
        codec.encode(tone(), Settings(kbps=2.5, timesteps=range(900, 0, -10)))


def test_level_and_mean_come_back(codec):
    """The decoder undoes the gain that the header holds."""
    header = codec.encode(tone(level=0.05), Settings(kbps=None, steps=2)).header
    louder = codec.encode(2 * tone(level=0.05), Settings(kbps=None, steps=2)).header
    assert louder.scale / header.scale == pytest.approx(2, rel=2e-3)
    assert louder.mean / header.mean == pytest.approx(2, rel=2e-3)
    assert header.mean == pytest.approx(float(tone(level=0.05).mean()), rel=1e-2)
    quiet = codec.decode(codec.encode(tone(), Settings(kbps=None, steps=2)).data)
    loud = codec.decode(codec.encode(4 * tone(), Settings(kbps=None, steps=2)).data)
    np.testing.assert_allclose(loud.samples, 4 * quiet.samples, rtol=0.01, atol=1e-3)


def test_wrong_payload_under_a_valid_checksum_is_refused(codec):
    encoded = codec.encode(tone(), Settings(kbps=None, steps=3))
    for payload in (b"", b"\xff" * 3, bytes(20)):
        data = bitstream.to_bytes(encoded.header, payload)
        with pytest.raises(UserError, match=r"x\.ddcm cannot be (read|decoded)"):
            codec.decode(data, "x.ddcm")


def test_drift_of_another_thread_count_is_bounded(codec):
    """Another number of threads may round otherwise; the noise does not amplify it."""
    encoded = codec.encode(tone(), Settings(kbps=None, steps=8))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        other = codec.decode(encoded.data).latents
    finally:
        torch.set_num_threads(before)
    assert float((other - encoded.codes.latents).abs().max()) < 1e-4


def test_codes_object_is_small(codec):
    encoded = codec.encode(tone(), Settings(kbps=None, steps=3))
    assert isinstance(encoded.codes, Codes)
    assert [choice.shape for choice in encoded.codes.choices] == [(1, 1)] * 2


def test_generated_files_decode_to_what_was_generated(codec):
    settings = Settings(kbps=None, steps=4, atoms=2, guidance=2.0)
    made = codec.generate("rain on a roof", 0.4, settings, seed=3)
    assert made.header.prompt == "rain on a roof"
    assert torch.equal(codec.decode(made.data).latents, made.codes.latents)
    free = codec.generate("rain on a roof", 0.4, settings, seed=3, subset=8)
    assert free.header.prompt is None
    assert free.sizes.optional == 0
    assert free.calls == 4 + 3  # the last step chooses nothing
    decoded = codec.decode(free.data)
    assert decoded.calls == 4
    assert torch.equal(decoded.latents, free.codes.latents)
    assert len(decoded.samples) == 0.4 * RATE
    plain = codec.generate("rain on a roof", 0.4, settings, seed=3, subset=1)
    assert plain.data != free.data
    other = codec.generate("rain on a roof", 0.4, settings, seed=4, subset=1)
    assert plain.data != other.data


def test_editing_a_file(codec):
    encoded = codec.encode(tone(), Settings(kbps=None, steps=6, prompt="a dog"))
    plain = codec.decode(encoded.data)
    same = codec.decode(encoded.data, edit=(6, "a cat"))
    assert torch.equal(same.latents, plain.latents)
    early = codec.decode(encoded.data, edit=(0, "a cat"))
    late = codec.decode(encoded.data, edit=(4, "a cat"))
    changes = [float((x.latents - plain.latents).norm()) for x in (early, late)]
    assert changes[0] > changes[1] > 0
    assert early.calls == plain.calls == 6


# --- command line -----------------------------------------------------------------------


def test_encode_decode_inspect(wav, tiny_checkpoint, capsys):
    coded, out = wav.with_name("out.ddcm"), wav.with_name("out.wav")
    tiny = ["--checkpoint", str(tiny_checkpoint)]
    assert main(["encode", str(wav), str(coded), "--kbps", "3", "--steps", "5", *tiny]) == 0
    said = capsys.readouterr().out
    assert f"{coded.stat().st_size} bytes for 0.70 s" in said
    first = coded.read_bytes()
    assert main(["encode", str(wav), str(coded), "--kbps", "3", "--steps", "5", *tiny]) == 0
    assert coded.read_bytes() == first

    assert main(["decode", str(coded), str(out), *tiny]) == 0
    samples, rate = sf.read(out)
    assert rate == RATE
    assert len(samples) == round(0.7 * RATE)
    assert main(["decode", str(coded), str(out), "--rate", "original", *tiny]) == 0
    assert sf.info(out).samplerate == 44100
    assert sf.info(out).frames == sf.info(wav).frames

    capsys.readouterr()
    assert main(["inspect", str(coded)]) == 0
    said = capsys.readouterr().out
    assert "codebook           cyclic" in said
    assert main(["inspect", str(coded), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["bytes"] == coded.stat().st_size
    assert values["kbps"] == pytest.approx(8 * values["bytes"] / 700, abs=1e-3)
    assert values["sample_rate"] == 44100
    left = {path.name for path in wav.parent.iterdir()}
    assert left == {"in.wav", "out.ddcm", "out.wav"}


def test_a_folder_with_a_broken_file(wav, tiny_checkpoint, capsys):
    folder = wav.parent
    (folder / "broken.wav").write_text("no audio")
    sf.write(folder / "other.flac", tone(0.4), RATE)
    coded, out = folder / "coded", folder / "decoded"
    tiny = ["--checkpoint", str(tiny_checkpoint)]
    status = main(["encode", str(folder), str(coded), "--atoms", "1", "--steps", "3", *tiny])
    said = capsys.readouterr()
    assert status == 2
    assert "broken.wav" in said.err
    assert "1 of 3 files failed" in said.err
    assert sorted(path.name for path in coded.iterdir()) == ["in.ddcm", "other.ddcm"]
    assert main(["decode", str(coded), str(out), *tiny]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["in.wav", "other.wav"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-5], "damaged or incomplete"),
        (lambda data: data[:20] + bytes([data[20] ^ 4]) + data[21:], "damaged or incomplete"),
        (lambda data: b"RIFF" + data[4:], "is not a .ddcm file"),
        (lambda data: data[:4] + b"\x20" + data[5:], "newer"),
        (lambda data: b"", "is not a .ddcm file"),
    ],
)
def test_damaged_files_give_one_sentence_and_no_output(
    codec, tiny_checkpoint, tmp_path, capsys, damage, message
):
    data = codec.encode(tone(0.2), Settings(kbps=None, steps=2)).data
    (tmp_path / "x.ddcm").write_bytes(damage(data))
    arguments = ["decode", str(tmp_path / "x.ddcm"), str(tmp_path / "x.wav")]
    assert main([*arguments, "--checkpoint", str(tiny_checkpoint)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.wav").exists()
    assert main(["inspect", str(tmp_path / "x.ddcm")]) == 2


def test_wrong_checkpoint_and_other_user_errors(codec, tiny_checkpoint, tmp_path, wav, capsys):
    encoded = codec.encode(tone(0.2), Settings(kbps=None, steps=2))
    foreign = bitstream.to_bytes(
        dataclasses.replace(encoded.header, fingerprint=b"\x01" * 6), b"\x00\x00"
    )
    (tmp_path / "x.ddcm").write_bytes(foreign)
    (tmp_path / "some").mkdir()
    tiny = ["--checkpoint", str(tiny_checkpoint)]
    cases = [
        (["decode", "x.ddcm", "x.wav"], "fingerprint begins with 010101010101"),
        (["decode", "none.ddcm", "x.wav"], "no such file"),
        (["decode", "x.ddcm", "x.mp3"], "change the suffix"),
        (["decode", "some", "out"], "holds no .ddcm files"),
        (["encode", "none.wav", "x.ddcm"], "no such file"),
        (["encode", "in.wav", "some"], "is a folder"),
        (["encode", "some", "in.wav"], "is a file"),
        (["encode", "x.ddcm", "y.ddcm"], "cannot be read as audio"),
        (["encode", "in.wav", "y.ddcm", "--kbps", "0.01"], "too low"),
        (["encode", "in.wav", "y.ddcm", "--steps", "0"], "steps"),
        (["encode", "in.wav", "y.ddcm", "--atoms", "1", "--guidance", "2"], "prompt"),
    ]
    for (verb, source, target, *rest), message in cases:
        arguments = [verb, str(tmp_path / source), str(tmp_path / target), *rest, *tiny]
        assert main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("audioldm-utils: error: ")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"in.wav", "x.ddcm", "some"}


def test_generate_a_file_that_decodes_without_a_prompt(tiny_checkpoint, tmp_path, capsys):
    tiny = ["--checkpoint", str(tiny_checkpoint)]
    said = ["generate", "rain", str(tmp_path / "x.ddcm"), "--seconds", "0.3", "--steps", "3"]
    assert main([*said, "--sampler", "ddcm", "--ccfg", "4", *tiny]) == 0
    assert bitstream.read(tmp_path / "x.ddcm")[0].prompt is None
    assert main(["decode", str(tmp_path / "x.ddcm"), str(tmp_path / "x.wav"), *tiny]) == 0
    assert sf.info(tmp_path / "x.wav").frames == round(0.3 * RATE)
    assert main([*said, "--sampler", "ddim", *tiny]) == 2
    assert "belong to --sampler ddcm" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["encode", "decode", "inspect"])
def test_help_has_examples(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"audioldm-utils {verb} " in capsys.readouterr().out.split("examples:")[1]


def test_a_quality_target_gives_the_smallest_file_that_reaches_it(codec):
    from audioldm_utils.ddcm.quality import encode_to_quality

    settings = Settings(steps=6)

    def error(encoded):
        decode = codec.networks.decode
        return float((decode(encoded.codes.latents) - decode(encoded.latents)).abs().mean())

    loose = codec.encode(tone(), Settings(kbps=2.0, steps=6))
    # Random weights: the error hardly falls with the rate, so the target leaves room.
    target = 1.1 * error(loose)
    found = encode_to_quality(codec, tone(), settings, target)
    assert error(found) <= target
    assert found.sizes.kbps <= 2.3
    with pytest.raises(UserError, match=r"mel_error must be a number .*, not 0\.0"):
        encode_to_quality(codec, tone(), settings, 0.0)
    with pytest.raises(UserError, match="is not reached"):
        encode_to_quality(codec, tone(), settings, 1e-9)


def test_a_folder_takes_its_prompts_from_the_manifest(tiny_checkpoint, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        sf.write(folder / f"{name}.wav", tone(), RATE)
    (folder / "manifest.csv").write_text("file,caption\na.wav,rain on a roof\nb.wav,\n")
    command = ["encode", str(folder), str(tmp_path / "out"), "--atoms", "1", "--steps", "3"]
    command += ["--checkpoint", str(tiny_checkpoint), "--prompt", "caption"]
    assert main(command) == 2
    assert "b.wav has no caption" in capsys.readouterr().err
    header, *_ = bitstream.from_bytes((tmp_path / "out" / "a.ddcm").read_bytes())
    assert header.prompt == "rain on a roof"


def test_the_bar_of_an_encoding_knows_its_total(
    wav, tiny_checkpoint, tmp_path, capsys, monkeypatch
):
    # Drawn at every step, however fast they are.
    monkeypatch.setattr("tqdm.tqdm", functools.partial(tqdm.tqdm, mininterval=0, miniters=1))
    command = ["encode", str(wav), str(tmp_path / "x.ddcm"), "--checkpoint", str(tiny_checkpoint)]
    assert main([*command, "--atoms", "2", "--steps", "5"]) == 0
    assert "5/5" in capsys.readouterr().err
    assert main([*command, "--mel-error", "5", "--steps", "4"]) == 0
    counts = re.findall(r"(\d+)/(\d+)", capsys.readouterr().err)
    assert counts
    assert all(int(done) <= int(total) for done, total in counts)
