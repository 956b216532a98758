"""Prompts that studies share, one for each of twenty classes of sounds."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audioldm_utils.audio.clips import Clip

#: Class and prompt.
PROMPTS = (
    ("speech_english", "a person speaking English"),
    ("speech_french", "a person reading a poem in French"),
    ("drums", "a drum kit playing a rock beat"),
    ("strings", "a string section playing a slow melody"),
    ("saxophone", "an alto saxophone playing a melody"),
    ("piano", "a grand piano playing a short melody"),
    ("sitar", "a sitar playing a melody"),
    ("fire", "a fire crackling"),
    ("vibraphone", "a vibraphone playing a melody"),
    ("rain", "rain falling"),
    ("clock", "a clock ticking"),
    ("dog", "a dog barking"),
    ("sneeze", "a person sneezing"),
    ("sea_waves", "sea waves"),
    ("helicopter", "a helicopter flying"),
    ("chainsaw", "a chainsaw running"),
    ("rooster", "a rooster crowing"),
    ("acoustic_guitar", "an acoustic guitar playing a melody"),
    ("bird", "a bird singing"),
    ("baby_cry", "a baby crying"),
)

#: Those of seven classes that are far from each other, of which each clip can be given one
#: that is not its own.
CONTRASTING = tuple(
    (name, dict(PROMPTS)[name])
    for name in ("dog", "rain", "piano", "helicopter", "saxophone", "clock", "drums")
)


def other_prompt(clip: Clip) -> str:
    """A prompt of another class, the same whatever other clips there are."""
    first = zlib.crc32(clip.name.encode()) % len(CONTRASTING)
    others = [CONTRASTING[(first + i) % len(CONTRASTING)] for i in range(2)]
    return next(text for category, text in others if category != clip.category)
