"""Which clips belong together, by what a manifest tells of their sources."""

import soundfile as sf

from audioldm_utils.audio.clips import find_clips, load_clip
from audioldm_utils.audio.origins import collection, recordings, take_of
from tests.sounds import noise_clip


def rows_of(*sources):
    return [
        {"file": f"{n}.wav", "source_repo": repo, "source_path": path}
        for n, (repo, path) in enumerate(sources)
    ]


def test_clips_that_share_a_source_belong_together_also_through_a_third():
    rows = rows_of(
        ("a/x", "dog.ogg@1.5s"), ("a/x", "dog.ogg@12.0s"), ("b/x", "dog.ogg"), ("a/x", ""),
        ("a/x", ""), ("a/x", "kick.wav; snare.wav"), ("a/x", "hat.wav;crash.wav"),
        ("a/x", "crash.wav;kick.wav"),
    )  # fmt: skip
    assert recordings(rows) == [0, 0, 2, 3, 4, 5, 5, 5]


def test_takes_of_one_source_belong_together_unless_they_shall_not():
    rows = rows_of(
        ("s/gm", "001-Piano/A2v16.wav"), ("s/gm", "001-Piano/F#4v16.wav"),
        ("s/gm", "002-Piano/A2v16.wav"), ("k/esc", "Dog/5-203128-A.ogg"),
        ("k/esc", "Dog/5-203128-B.ogg"), ("k/esc", "Dog/5-208030-A.ogg"),
    )  # fmt: skip
    assert recordings(rows) == [0, 0, 2, 3, 3, 5]
    assert recordings(rows, takes=False) == list(range(6))


def test_what_tells_takes_apart_is_left_out():
    together = [
        ("alto/c3_p_rr1_cnd.wav", "alto/f2_f_rr1_cnd.wav"),
        ("105-Sitar/Str05.flac", "105-Sitar/Str23.flac"),
        ("026/MartinGM2_040__E2_1.wav", "026/MartinGM2_046_Bb2_1.wav"),
        ("sounds/cello-double.wav", "sounds/cello-double-2.wav"),
        ("marimba/G3-mf.mp3", "marimba/C3-pp.mp3"),
    ]
    for one, other in together:
        assert take_of(one) == take_of(other)
    apart = [
        ("speech/8aaf372d-30ee-4e85-92ce.wav", "speech/fbb2f04c-ed15-4b29-9632.wav"),
        ("sounds/oboe-A4.wav", "sounds/flute-A4.wav"),
        ("105-Sitar/Str05.flac", "112-Shanai/Shn05.flac"),
        ("drums/source-0306.m4a", "drums/source-0354.m4a"),
        ("d/a.ogg", "d/b.ogg"),
    ]
    for one, other in apart:
        assert take_of(one) != take_of(other)


def test_a_manifest_may_name_the_recording_itself():
    rows = rows_of(("a/x", "one.wav"), ("a/x", "one.wav"), ("a/x", "two.wav"))
    for row, name in zip(rows, ("first", "second", "first"), strict=True):
        row["recording"] = name
    assert recordings(rows) == [0, 1, 0]


def test_a_collection_is_an_owner():
    assert (
        collection({"source_repo": "sfz/bank"}) == collection({"source_repo": "sfz/sax"}) == "sfz"
    )
    assert collection({}) == collection({"source_repo": None}) == ""


def test_clips_know_their_recording_and_collection(tmp_path):
    for name in ("a.wav", "a.flac", "b.wav"):
        sf.write(tmp_path / name, noise_clip(), 16000)
    plain = find_clips(tmp_path)
    assert [info.recording for info in plain] == [info.name for info in plain]
    assert {info.collection for info in plain} == {""}
    (tmp_path / "manifest.csv").write_text(
        "file,class,source_repo,source_path\na.flac,dog,o/r,d/bark1.ogg\na.wav,dog,o/r,d/growl.ogg\n"
        "b.wav,dog,o/r,d/bark2.ogg\n"
    )
    infos = find_clips(tmp_path)
    assert [info.name for info in infos] == ["a.flac", "a.wav", "b"]
    assert [info.recording for info in infos] == ["a.flac", "a.wav", "a.flac"]
    clip = load_clip(infos[2])
    assert clip.labels == {"category": "dog", "recording": "a.flac", "collection": "o"}
    assert clip.labels == infos[2].labels
    assert load_clip(tmp_path / "b.wav").recording == "b"
