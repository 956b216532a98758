"""Reading, levels, lags and writing of audio."""

import numpy as np
import pytest
import soundfile as sf

from audioldm_utils.audio import clips as audio
from audioldm_utils.audio.signals import _loudness
from audioldm_utils.audio.survey import loaded
from audioldm_utils.errors import UserError

RATE = 16000


def tone(seconds=0.5, rate=RATE, frequency=440.0, level=0.3):
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def write(path, x, rate=RATE, **options):
    sf.write(path, x, rate, **options)
    return path


# Every container, many rates, one to six channels.


@pytest.mark.parametrize(
    ("suffix", "options", "tolerance"),
    [
        ("wav", {"subtype": "PCM_16"}, 1e-4),
        ("wav", {"subtype": "FLOAT"}, 1e-7),
        ("wav", {"subtype": "PCM_U8"}, 1e-2),
        ("wav", {"subtype": "ULAW"}, 2e-2),
        ("flac", {"subtype": "PCM_24"}, 1e-6),
        ("aiff", {"subtype": "PCM_24"}, 1e-6),
        ("au", {"subtype": "PCM_16"}, 1e-4),
        ("caf", {"subtype": "PCM_16"}, 1e-4),
        ("ogg", {"subtype": "VORBIS"}, 0.05),
        ("ogg", {"subtype": "OPUS"}, 0.05),
        ("mp3", {}, 0.05),
    ],
)
def test_formats(tmp_path, suffix, options, tolerance):
    x = tone(1.0, 48000)
    clip = audio.load_clip(write(tmp_path / f"a.{suffix}", x, 48000, **options))
    assert clip.sample_rate == 48000
    assert clip.samples.dtype == np.float32
    middle = slice(12000, 36000)
    offset = audio.lag(x[middle], clip.samples[middle], 0)
    assert offset == 0
    np.testing.assert_allclose(clip.samples[middle], x[middle], atol=tolerance)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 96000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_rates_and_channels_mix_to_their_mean(tmp_path, rate, channels):
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.5, 0.5, (rate // 5, channels)).astype(np.float32)
    clip = audio.load_clip(write(tmp_path / "a.wav", x, rate, subtype="FLOAT"))
    assert clip.sample_rate == rate
    np.testing.assert_allclose(clip.samples, x.mean(1), atol=1e-7)
    assert clip.seconds == pytest.approx(0.2)
    assert len(audio.to_model_rate(clip)) == 3200


def test_reading_in_blocks_is_reading_at_once(tmp_path, monkeypatch):
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (7001, 2)).astype(np.float32)
    path = write(tmp_path / "a.wav", x, subtype="FLOAT")
    whole = audio.load_clip(path).samples
    monkeypatch.setattr(audio, "_BLOCK", 999)
    np.testing.assert_array_equal(audio.load_clip(path).samples, whole)


def test_max_seconds(tmp_path):
    path = write(tmp_path / "a.wav", tone(1.0))
    assert len(audio.load_clip(path, max_seconds=0.25).samples) == 4000
    assert len(audio.load_clip(path, max_seconds=99).samples) == 16000
    with pytest.raises(ValueError, match=r"max_seconds must be a number from 0\.1"):
        audio.load_clip(path, max_seconds=0)


def test_float_file_over_full_scale_is_not_clipped(tmp_path):
    path = write(tmp_path / "a.wav", tone(level=3.0), subtype="FLOAT")
    assert audio.load_clip(path).samples.max() == pytest.approx(3.0, rel=1e-3)


# Broken files: one sentence that names the file.


def broken_files(folder):
    folder.mkdir()
    good = write(folder / "good.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 20000))
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is not audio\n" * 50)
    (folder / "corrupt.flac").write_bytes(good.read_bytes()[:9000])
    (folder / "noise.mp3").write_bytes(np.random.default_rng(1).bytes(500))
    (folder / "movie.m4a").write_bytes(b"\0\0\0 ftypM4A " + bytes(300))
    whole = write(folder / "whole.wav", tone(1.0)).read_bytes()
    (folder / "zero_length.wav").write_bytes(whole[:44])
    (folder / "whole.wav").unlink()
    write(folder / "silent.wav", np.zeros(8000))
    write(folder / "offset.wav", np.full(8000, 0.25), subtype="FLOAT")
    write(folder / "cancelling.wav", np.stack([tone(), -tone()], 1))
    bad = tone()
    bad[7] = np.nan
    write(folder / "nan.wav", bad, subtype="FLOAT")
    bad[7] = np.inf
    write(folder / "inf.wav", bad, subtype="FLOAT")
    write(folder / "one_sample.wav", tone()[5:6])
    write(folder / "short.wav", tone(0.09))
    write(folder / "hundred.wav", np.tile(tone()[:, None], 100))
    write(folder / "slow.wav", tone(), 500)
    return folder


SENTENCES = {
    "empty.wav": r"empty \(0 bytes\)",
    "text.wav": "cannot be read as audio",
    "corrupt.flac": "cut short or corrupt|cannot be read as audio",
    "noise.mp3": "cannot be read as audio",
    "movie.m4a": "cannot be read as audio",
    "zero_length.wav": "no samples",
    "silent.wav": "the clip is silent",
    "offset.wav": "the clip is silent",
    "cancelling.wav": "channels cancel",
    "nan.wav": "1 samples are NaN or infinite",
    "inf.wav": "1 samples are NaN or infinite",
    "one_sample.wav": r"too short \(1 samples",
    "short.wav": "too short",
    "hundred.wav": "100 channels",
    "slow.wav": "500 Hz is too low",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_broken_file_is_one_sentence(tmp_path, name):
    folder = broken_files(tmp_path / "clips")
    with pytest.raises(UserError, match=SENTENCES[name]) as caught:
        audio.load_clip(folder / name)
    sentence = str(caught.value)
    assert sentence.startswith(f"{folder / name}: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        audio.load_clip(tmp_path / "gone.wav")
    with pytest.raises(UserError, match="this is a folder"):
        audio.load_clip(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        audio.find_clips(tmp_path / "gone")
    with pytest.raises(UserError, match="no audio files"):
        audio.find_clips(tmp_path)


def test_folder_goes_on_past_broken_files(tmp_path):
    folder = broken_files(tmp_path / "clips")
    told = []
    clips = list(loaded(audio.find_clips(folder), say=told.append))
    assert [clip.name for clip in clips] == ["good"]
    assert len(told) == len(SENTENCES)
    with pytest.raises(UserError):
        [audio.load_clip(info) for info in audio.find_clips(folder)]


# Finding clips.


def test_find_without_a_table(tmp_path):
    for name in ("b.wav", "a.FLAC", "B2.wav", "notes.txt", ".hidden.wav"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.wav").mkdir()
    found = audio.find_clips(tmp_path)
    assert [info.path.name for info in found] == ["B2.wav", "a.FLAC", "b.wav"]
    assert found[1].name == "a"
    assert found[1].caption is None


def test_equal_stems_get_different_names(tmp_path):
    for name in ("a.wav", "a.flac", "b.wav"):
        (tmp_path / name).write_bytes(b"x")
    assert [info.name for info in audio.find_clips(tmp_path)] == ["a.flac", "a.wav", "b"]


def test_manifest_comes_before_the_sibling_table(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    (tmp_path / "clips.csv").write_text("file,caption,class\nclips/x.wav,a bird,bird\n")
    (info,) = audio.find_clips(folder)
    assert (info.name, info.caption, info.category) == ("x", "a bird", "bird")
    assert info.path == tmp_path / "clips" / "x.wav"
    with pytest.raises(UserError, match="no such file"):
        audio.load_clip(info)
    (folder / "manifest.csv").write_text("\ufefffile,class\ny.wav,\n,\n", encoding="utf-8")
    (info,) = audio.find_clips(folder)
    assert (info.path, info.caption, info.category) == (folder / "y.wav", None, None)


def test_sibling_table_of_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips.csv").write_text("file\nclips/x.wav\n")
    monkeypatch.chdir(tmp_path / "clips")
    assert audio.find_clips(".")[0].name == "x"


def test_a_table_about_something_else_beside_the_folder_is_left_alone(tmp_path):
    (tmp_path / "clips").mkdir()
    write(tmp_path / "clips" / "x.wav", tone())
    (tmp_path / "clips.csv").write_text("clip,metric,value\nx,snr,3\n")
    assert [info.name for info in audio.find_clips(tmp_path / "clips")] == ["x"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,caption\na.wav,b\n", "no column 'file'"),
        ("", "no column 'file'"),
        ("file\n", "lists no files"),
    ],
)
def test_bad_tables(tmp_path, text, sentence):
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(UserError, match=sentence):
        audio.find_clips(tmp_path)


def test_table_that_is_not_text(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00file")
    with pytest.raises(UserError, match="not a CSV table"):
        audio.find_clips(tmp_path)


def test_one_file_is_a_list_of_one(tmp_path):
    path = write(tmp_path / "a.wav", tone())
    assert audio.find_clips(path) == [audio.ClipInfo(path, "a")]
    assert [clip.name for clip in loaded(audio.find_clips(path))] == ["a"]


# Level, rate, lag.


@pytest.mark.parametrize(("old", "new"), [(44100, 16000), (8000, 16000), (16000, 48000), (1, 3)])
def test_resample_length_and_no_delay(old, new):
    n = old if old > 1 else 1000
    x = np.sin(2 * np.pi * 0.01 * np.arange(n)) * np.hanning(n)
    y = audio.resample(x, old, new)
    assert y.dtype == np.float32
    assert len(y) == round(n * new / old)
    wanted = np.interp(np.arange(len(y)) * old / new, np.arange(n), x)
    np.testing.assert_allclose(y, wanted, atol=2e-3)


def test_resample_same_rate_is_a_copy():
    x = tone().astype(np.float32)
    y = audio.resample(x, RATE, RATE)
    np.testing.assert_array_equal(x, y)
    y[:] = 0
    assert x.any()
    with pytest.raises(ValueError, match="must be positive"):
        audio.resample(x, 0, RATE)


def test_normalise_and_undo():
    x = np.array([0.0, 0.2, 0.4, 0.8])
    y, gain = audio.normalise(x)
    np.testing.assert_allclose(y, (x - 0.35) * (0.5 / 0.45))
    assert np.abs(y).max() == pytest.approx(0.5)
    np.testing.assert_allclose(gain.undo(y), x)
    np.testing.assert_allclose(gain.apply(x), y)
    x32 = tone().astype(np.float32)
    assert audio.normalise(x32)[0].dtype == np.float32
    with pytest.raises(ValueError, match="cannot normalise"):
        audio.normalise(np.zeros(10))


@pytest.mark.parametrize("offset", [-37, -1, 0, 1, 32, 90])
@pytest.mark.parametrize("polarity", [1, -1])
def test_lag_is_found_and_undone(offset, polarity):
    x = np.random.default_rng(3).standard_normal(2000)
    late = polarity * audio.shift(x, -offset)
    assert audio.lag(x, late, 100) == offset
    inside = slice(100, -100)
    np.testing.assert_array_equal(audio.shift(late, offset)[inside], polarity * x[inside])


def test_lag_of_envelopes_needs_no_common_phase():
    rng = np.random.default_rng(4)
    bursts = np.zeros(8000)
    bursts[1000:1400] = bursts[3000:3100] = bursts[6000:6900] = 1
    x, y = bursts * rng.standard_normal(8000), bursts * rng.standard_normal(8000)
    assert abs(audio.lag(x, audio.shift(y, -50), 200, on="envelope") - 50) <= 20


def test_lag_with_other_lengths_and_bad_input():
    x = np.random.default_rng(5).standard_normal(1000)
    assert audio.lag(x, np.concatenate([np.zeros(32), x, np.zeros(9)]), 64) == 32
    with pytest.raises(ValueError, match=r"\(2, 500\)"):
        audio.lag(x, x.reshape(2, 500), 5)
    with pytest.raises(ValueError, match="'waveform' or 'envelope'"):
        audio.lag(x, x, 5, on="phase")


def test_shift_past_the_end_is_silence():
    x = np.arange(5.0)
    np.testing.assert_array_equal(audio.shift(x, 9), np.zeros(5))
    np.testing.assert_array_equal(audio.shift(x, -9), np.zeros(5))
    np.testing.assert_array_equal(audio.shift(x, 2), [2, 3, 4, 0, 0])
    np.testing.assert_array_equal(audio.shift(x, -2), [0, 0, 0, 1, 2])


@pytest.mark.parametrize(("samples", "fitted"), [(2, [1, 2]), (3, [1, 2, 3]), (5, [1, 2, 3, 0, 0])])
def test_fit_length_cuts_or_fills_the_end(samples, fitted):
    found = audio.fit_length(np.array([1.0, 2.0, 3.0]), samples)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, fitted)


def test_match_loudness():
    x, reference = tone(level=0.1), tone(level=0.4, frequency=450)
    matched = audio.match_loudness(x, reference, RATE)
    assert _loudness(matched, RATE) == pytest.approx(_loudness(reference, RATE), rel=1e-6)
    np.testing.assert_allclose(matched / matched.max(), x / x.max())
    with pytest.raises(ValueError, match="silent"):
        audio.match_loudness(np.zeros(100), reference, RATE)


def test_k_weighting_has_the_standard_figure():
    # BS.1770: a full-scale 997 Hz sine reads -3.01 LKFS, where LKFS = -0.691 + 10 log10(power).
    x = np.sin(2 * np.pi * 997 * np.arange(48000) / 48000)
    assert -0.691 + 20 * np.log10(_loudness(x, 48000)) == pytest.approx(-3.01, abs=0.02)


# Saving.


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("bits", [16, 24])
def test_save_and_load_are_exact_to_half_a_step(tmp_path, suffix, bits):
    x = np.random.default_rng(6).uniform(-1, 1, 5000)
    x[:2] = 1.0, -1.0
    assert audio.save(tmp_path / f"a.{suffix}", x, 44100, bits=bits) == 1.0
    back = audio.load_clip(tmp_path / f"a.{suffix}")
    assert back.sample_rate == 44100
    np.testing.assert_allclose(back.samples[1:], x[1:], atol=0.51 / 2 ** (bits - 1) + 4e-8)
    # What was read is written again bit for bit.
    audio.save(tmp_path / f"b.{suffix}", back.samples, 44100, bits=bits)
    np.testing.assert_array_equal(audio.load_clip(tmp_path / f"b.{suffix}").samples, back.samples)


def test_save_never_clips(tmp_path):
    x = tone(level=2.0)
    with pytest.warns(UserWarning, match=r"6\.0. dB over full scale"):
        gain = audio.save(tmp_path / "a.flac", x, RATE)
    assert gain == pytest.approx(0.5, rel=1e-2)
    np.testing.assert_allclose(audio.load_clip(tmp_path / "a.flac").samples, x * gain, atol=1e-4)


def test_save_refuses_and_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match=r"\.wav or \.flac"):
        audio.save(tmp_path / "a.mp3", tone(), RATE)
    bad = tone()
    bad[0] = np.nan
    with pytest.raises(ValueError, match="finite samples"):
        audio.save(tmp_path / "a.wav", bad, RATE)
    with pytest.raises(ValueError, match="bits"):
        audio.save(tmp_path / "a.wav", tone(), RATE, bits=8)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        audio.save(tmp_path / "file" / "a.wav", tone(), RATE)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
