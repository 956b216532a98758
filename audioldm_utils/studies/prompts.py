"""Prompts that studies share, two for each of twenty classes of sounds."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audioldm_utils.audio.clips import Clip

#: Class and prompt. Nobody picked them: of the captions of each of the twenty largest classes of
#: the training set two were drawn, by ``recipe.captions.drawn_prompts`` with seed 0.
PROMPTS = (
    (
        "speech_english",
        "a person speaking English, ordering a triple shot iced coffee with lots of brown sugar",
    ),
    ("speech_english", "someone orders a triple shot cappuccino with milk and sugar in English"),
    ("speech_french", "a man reciting poetry in French"),
    ("speech_french", "a woman speaking French"),
    ("drums", "a bass drum being hit repeatedly"),
    ("drums", "a drum kit playing a rock beat at 120 beats per minute"),
    ("strings", "plucked orchestral strings, a short phrase"),
    ("strings", "a string orchestra playing tremolo, a short phrase"),
    ("electronic", "electronic kick drums"),
    ("electronic", "a drum machine playing a dance beat"),
    ("saxophone", "an alto saxophone playing the note G#4 softly"),
    ("saxophone", "an alto saxophone playing a long note D#3"),
    ("piano", "a simple melody on an upright piano"),
    ("piano", "a grand piano playing a short melody"),
    ("percussion", "an agogo bell being struck"),
    ("percussion", "a cowbell being hit"),
    ("sitar", "a single note F5 on a sitar"),
    ("sitar", "a simple melody on a sitar"),
    ("animal", "a hyena giggling"),
    ("animal", "a cat meowing"),
    ("fire", "a crackling wood fire"),
    ("fire", "a fire crackling"),
    ("vibraphone", "a vibraphone playing a few notes"),
    ("vibraphone", "a simple melody played on a vibraphone"),
    ("steel_drum", "a steel drum playing the note C#4"),
    ("steel_drum", "a steel drum playing a few notes"),
    ("rain", "rain falling"),
    ("rain", "steady rain falling outdoors"),
    ("marimba", "a marimba playing a few notes"),
    ("marimba", "a simple melody played on a marimba"),
    ("clock", "a clock ticking"),
    ("clock", "the steady ticking of a clock"),
    ("dog", "a dog barks"),
    ("dog", "a dog barking"),
    ("sneeze", "a person sneezing"),
    ("sneeze", "someone sneezes"),
    ("french_horn", "a French horn playing a short melody"),
    ("french_horn", "a simple melody played on a French horn"),
    ("sea_waves", "ocean waves rolling onto a beach"),
    ("sea_waves", "sea waves breaking on the shore"),
)
#: Their classes, which sounds are told apart into.
CLASSES = tuple(dict.fromkeys(category for category, _ in PROMPTS))

#: Prompts of seven classes that are far from each other, of which each clip can be given one
#: that is not its own.
CONTRASTING = (
    ("dog", "a dog barking"),
    ("rain", "rain falling"),
    ("piano", "a grand piano playing a short melody"),
    ("helicopter", "a helicopter flying"),
    ("saxophone", "an alto saxophone playing a melody"),
    ("clock", "a clock ticking"),
    ("drums", "a drum kit playing a rock beat"),
)


def other_prompt(clip: Clip) -> str:
    """A prompt of another class, the same whatever other clips there are."""
    first = zlib.crc32(clip.name.encode()) % len(CONTRASTING)
    others = [CONTRASTING[(first + i) % len(CONTRASTING)] for i in range(2)]
    return next(text for category, text in others if category != clip.category)
