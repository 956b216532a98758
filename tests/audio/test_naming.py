"""Captions from file names: words stay, numbers and codes do not, nothing is made up."""

from __future__ import annotations

import pytest
import soundfile as sf

from audioldm_utils.audio.clips import find_clips, load_clip
from audioldm_utils.audio.origins import caption_from_name
from tests.sounds import noise_clip


@pytest.mark.parametrize(
    ("stem", "caption"),
    [
        ("dog_barking", "dog barking"),
        ("DogBarking-2", "dog barking"),
        ("rain_on_roof_02", "rain on roof"),
        ("a-door.slams in the wind", "a door slams in the wind"),
        ("03 violin solo (final)", "violin solo"),
        ("Regen über Dächern", "regen über dächern"),
        ("狗叫_1", "狗叫"),
        ("track_03", None),
        ("1-100032-A", None),
        ("REC001", None),
        ("a1b2c3d4-99ff", None),
        ("IMG_1234", None),
        ("xkcd", None),
        ("of the", None),
        ("", None),
    ],
)
def test_words_of_a_name(stem, caption):
    assert caption_from_name(stem) == caption


def test_a_manifest_goes_before_the_names(tmp_path):
    for name in ("dog_barking_1.wav", "track_2.wav"):
        sf.write(tmp_path / name, noise_clip(), 16000)
    captions = lambda: [info.caption for info in find_clips(tmp_path)]  # noqa: E731
    assert captions() == ["dog barking", None]
    assert load_clip(tmp_path / "dog_barking_1.wav").caption == "dog barking"
    assert find_clips(tmp_path / "dog_barking_1.wav")[0].caption == "dog barking"
    table = tmp_path / "manifest.csv"
    table.write_text("file,class\ndog_barking_1.wav,dog\ntrack_2.wav,\n")
    assert captions() == ["dog barking", None]
    table.write_text("file,caption\ndog_barking_1.wav,\ntrack_2.wav,a waltz\n")
    assert captions() == [None, "a waltz"]  # an empty cell says that there is none
