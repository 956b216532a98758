"""Is what the model makes from a prompt heard as the prompt's class?

A classifier is trained on real train clips, and told the class of generated samples. Its
accuracy on real held-out clips that went through VAE and vocoder says how far it can be
trusted on what comes out of them. Samples that nearly copy a train clip are left out: they
would be recognised whatever the model had learnt.

The same with the GPT-2 sequence, or the T5 sequence, of another prompt, asks whether the
network listens to each of its two text inputs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from audioldm_utils.metrics.statistics import bootstrap_interval, compare_pairs
from audioldm_utils.model.generation import make_scheduler, sample, starting_noise
from audioldm_utils.model.networks import normalise

if TYPE_CHECKING:
    from audioldm_utils.model.networks import Networks
    from recipe.data import Corpus

#: The largest classes of train, samples of each, and how they are made. The contrasts make
#: fewer samples, with the prompts and the noise of the first of the others.
CLASSES, EACH, CONTRAST_EACH = 20, 10, 6
STEPS, GUIDANCE, FRAMES = 50, 3.5, 256
BATCH = 20
#: Mean power, dBFS, below which a sample counts as all but silent.
QUIET = -45.0
#: Prompts of different classes, and seeds of each, whose sounds are held against each other.
ALIKE = 8
#: Frames that are averaged before mels are compared with train clips.
POOL = 8


def features(mel: np.ndarray) -> np.ndarray:
    """What the classifier sees of a log-mel ``(frames, 64)``: blind to level and to position.

    Mean, spread, two quantiles and mean change over time of each band, and how strongly the
    level fluctuates at each rate up to 25 Hz.
    """
    mel = mel.astype(np.float64) - mel.mean()
    envelope = mel.mean(axis=1) - mel.mean()
    size = 256
    rates = np.abs(np.fft.rfft(envelope, size))[1:65].reshape(16, 4).mean(1) / len(envelope) ** 0.5
    return np.concatenate(
        [
            mel.mean(0),
            mel.std(0),
            *np.quantile(mel, (0.1, 0.9), axis=0),
            np.abs(np.diff(mel, axis=0)).mean(0),
            np.log1p(rates),
        ]
    )


def crops(mel: np.ndarray, frames: int = FRAMES) -> list[np.ndarray]:
    """Pieces of ``frames`` frames, half overlapping; a shorter clip as it is."""
    starts = range(0, max(len(mel) - frames, 0) + 1, frames // 2)
    return [mel[start : start + frames] for start in starts]


def fit(mels: Sequence[np.ndarray], classes: Sequence[str], frames: int = FRAMES) -> Any:
    """A logistic regression on `features` of all crops of the clips."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pieces = [
        (features(crop), name)
        for mel, name in zip(mels, classes, strict=True)
        for crop in crops(mel, frames)
    ]
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.05, max_iter=2000, class_weight="balanced")
    )
    return model.fit(np.stack([x for x, _ in pieces]), [name for _, name in pieces])


def told(model: Any, mels: Sequence[np.ndarray]) -> list[str]:
    """The classes that the model takes mels for."""
    return list(model.predict(np.stack([features(mel) for mel in mels])))


def _pooled(mel: np.ndarray) -> torch.Tensor:
    """``(64, frames / POOL)``: averaged over time."""
    count = len(mel) // POOL
    return torch.from_numpy(mel[: count * POOL].reshape(count, POOL, 64).mean(1).T.copy()).float()


def nearest(mels: Sequence[np.ndarray], train: Sequence[np.ndarray]) -> np.ndarray:
    """RMS log-mel difference, nat, of each mel to the nearest place in any train clip.

    Args:
        mels: all of one length, ``(frames, 64)``, averaged over ``POOL`` frames here.
        train: clips; those that are shorter than ``mels`` are passed over.
    """
    wanted = torch.stack([_pooled(mel) for mel in mels])
    size = wanted.shape[2]
    # Differences of large numbers lose digits: levels are taken about their mean.
    level = wanted.mean()
    wanted = wanted.flatten(1) - level
    own = wanted.square().sum(1)
    best = torch.full((len(mels),), torch.inf)
    for mel in train:
        clip = _pooled(mel) - level
        if clip.shape[1] < size:
            continue
        places = clip.unfold(1, size, 1).transpose(0, 1).flatten(1)
        squared = places.square().sum(1, keepdim=True) + own - 2 * places @ wanted.T
        best = torch.minimum(best, squared.amin(0))
    return (best.clamp(min=0) / wanted.shape[1]).sqrt().numpy()


def through(networks: Networks, mel: torch.Tensor) -> np.ndarray:
    """Log-mel ``(frames, 64)`` of what VAE and synthesis make of a log-mel ``(1, frames, 64)``."""
    return heard(networks, networks.encode(mel))[0].mel


@dataclass(frozen=True)
class Heard:
    """A sound: its log-mel ``(frames, 64)`` at the front end's level, its power there and its own.

    The front end's level, a peak of one half, is the one at which ``generate`` writes a sound
    by default. Powers are means over time, dBFS.
    """

    mel: np.ndarray
    level: float
    as_made: float


def heard(networks: Networks, latents: torch.Tensor) -> list[Heard]:
    """What latents sound like."""
    waves = networks.synthesise(networks.decode(latents)).cpu()
    written = normalise(waves)[0]
    mels = networks.to_mel(written).cpu()
    powers = [10 * w.square().mean(1).clamp(min=1e-12).log10() for w in (written, waves)]
    return [
        Heard(mel.numpy(), float(level), float(as_made))
        for mel, level, as_made in zip(mels, *powers, strict=True)
    ]


def generated(
    networks: Networks,
    prompts: Sequence[str],
    seeds: Sequence[int],
    others: Sequence[str] = (),
    which: str = "",
) -> list[Heard]:
    """A sample a prompt.

    Args:
        prompts, seeds: as many; a sample hangs on its own alone.
        others: as many prompts, whose ``which`` sequence (``gpt2`` or ``t5``) is taken instead.
    """
    made: list[Heard] = []
    for first in tqdm(range(0, len(prompts), BATCH), desc=f"samples {which}", unit="batch"):
        part = slice(first, first + BATCH)
        conditioning = networks.embed(list(prompts[part]))
        if which:
            foreign = networks.embed(list(others[part]))
            conditioning = replace(
                conditioning,
                **{"generated": foreign.generated}
                if which == "gpt2"
                else {"t5": foreign.t5, "mask": foreign.mask},
            )
        noise = starting_noise(seeds[part], FRAMES // 4)
        scheduler = make_scheduler("ddim", networks.checkpoint.scheduler_config)
        # Negatives stand beside a sequence of their own length.
        denoiser = _guided(networks, conditioning)
        made += heard(networks, sample(networks, scheduler, denoiser, noise, STEPS))
    return made


def _guided(networks: Networks, conditioning: Any) -> Any:
    if conditioning.negative is None:
        conditioning = replace(conditioning, negative=networks.text.unconditional)
    return networks.denoiser(conditioning, GUIDANCE)


def prompts_of(train: Corpus, names: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Captions and classes of the samples: each class in turn, ``EACH`` rounds."""
    rng = np.random.default_rng(seed)
    table = train.table
    texts: list[str] = []
    for _ in range(EACH):
        for name in names:
            texts.append(str(rng.choice(table.loc[table["class"] == name, "caption"])))
    return texts, list(names) * EACH


def classifier_figures(networks: Networks, train: Corpus, held_out: Corpus) -> dict[str, Any]:
    """Accuracy on generated samples, with both sequences and with either one of another prompt."""
    seed = 0
    networks.checkpoint.use_channels_last()
    names = list(train.table["class"].value_counts().index[:CLASSES])
    rows = [i for i, name in enumerate(train.table["class"]) if name in names]
    classes = train.table["class"].tolist()
    model = fit([train.log_mel(i) for i in rows], [classes[i] for i in rows])
    held = [i for i, name in enumerate(held_out.table["class"]) if name in names]
    real = [crops(held_out.log_mel(i))[0] for i in held]
    real = [mel[: len(mel) // 4 * 4] for mel in real]
    passed = [through(networks, torch.from_numpy(mel)[None]) for mel in real]
    truth = [held_out.table["class"].iloc[i] for i in held]

    texts, wanted = prompts_of(train, names, seed)
    # The classes lie around a circle of CLASSES: half way round is another one for each.
    others = [texts[i - i % CLASSES + (i + CLASSES // 2) % CLASSES] for i in range(len(texts))]
    begun = time.process_time()
    seeds = [seed * 100003 + i for i in range(len(texts))]
    samples = generated(networks, texts, seeds)
    each = (time.process_time() - begun) / len(samples)
    own = [one.mel for one in samples]
    whole = [train.log_mel(i) for i in range(len(train))]
    distance = nearest(own, whole)
    copied = [crops(mel)[0] for mel in whole[:: max(len(whole) // 40, 1)]]
    copied = [mel for mel in copied if len(mel) == FRAMES]
    same = nearest([through(networks, torch.from_numpy(mel)[None]) for mel in copied], whole)
    limit = float(np.quantile(same, 0.95))
    fresh = distance > limit
    unseen = nearest([mel for mel in real if len(mel) == FRAMES], whole)
    # The limit is meant to miss no copy; how often it takes for one what cannot be one, real
    # clips that are not in train tell, and so does a limit that one in twenty of them passes.
    strict = float(np.quantile(unseen, 0.05))

    def right(mels: Sequence[np.ndarray], labels: Sequence[str]) -> np.ndarray:
        found = told(model, mels)
        return np.array([a == b for a, b in zip(found, labels, strict=True)], float)

    hits = right(own, wanted)
    count = CONTRAST_EACH * CLASSES
    found: dict[str, Any] = {
        "chance": 1 / CLASSES,
        "classes": names,
        "accuracy": bootstrap_interval(hits[fresh]).as_dict(),
        "over_chance": float(hits[fresh].mean() * CLASSES),
        "per_class": {
            name: float(hits[fresh & (np.array(wanted) == name)].mean())
            for name in names
            if (fresh & (np.array(wanted) == name)).any()
        },
        "real": bootstrap_interval(right(real, truth)).as_dict(),
        "real_through_vae_and_synthesis": bootstrap_interval(right(passed, truth)).as_dict(),
        "near_copies": int((~fresh).sum()),
        "copy_limit_nat": limit,
        "nearest_train_nat": bootstrap_interval(distance).as_dict(),
        "nearest_train_of_eval_nat": bootstrap_interval(unseen).as_dict(),
        "near_copies_of_eval": bootstrap_interval((unseen <= limit).astype(float)).as_dict(),
        "accuracy_of_all": bootstrap_interval(hits).as_dict(),
        "strict_copy_limit_nat": strict,
        "strict_near_copies": int((distance <= strict).sum()),
        "strict_accuracy": bootstrap_interval(hits[distance > strict]).as_dict(),
        "below_45_dbfs": sum(one.level < QUIET for one in samples),
        "below_45_dbfs_as_made": sum(one.as_made < QUIET for one in samples),
        "quietest_dbfs": min(one.level for one in samples),
        "synthesis": networks.synthesis,
        "seconds_a_sample": each,
        "steps": STEPS,
        "guidance": GUIDANCE,
        "seconds": FRAMES / 100,
    }
    for which in ("gpt2", "t5"):
        made = generated(networks, texts[:count], seeds, others[:count], which)
        foreign = right([one.mel for one in made], wanted[:count])
        pair = compare_pairs(foreign, hits[:count])
        found[f"other_{which}"] = {
            "accuracy": bootstrap_interval(foreign).as_dict(),
            "own_accuracy": bootstrap_interval(hits[:count]).as_dict(),
            "difference": pair.as_dict(),
            "p": pair.p,
        }
    return found


def alikeness(networks: Networks, train: Corpus) -> dict[str, Any]:
    """Mean correlation of mean spectra: of different prompts at one seed, of one at several.

    A model whose seed decides the sound, whatever is asked for, has the first above the second.
    Prompts are the most common captions of the `ALIKE` largest classes.
    """
    table = train.table
    names = table["class"].value_counts().index[:ALIKE]
    texts = [table.loc[table["class"] == name, "caption"].mode()[0] for name in names]
    seeds = list(range(ALIKE))
    made = generated(networks, texts * ALIKE, [seed for seed in seeds for _ in texts])
    spectra = np.stack([one.mel.mean(0) for one in made]).reshape(ALIKE, ALIKE, -1)
    across, within = pairwise(spectra), pairwise(spectra.swapaxes(0, 1))
    return {
        "prompts": texts,
        "different_prompts_one_seed": bootstrap_interval(across).as_dict(),
        "one_prompt_different_seeds": bootstrap_interval(within).as_dict(),
    }


def pairwise(groups: np.ndarray) -> np.ndarray:
    """Mean correlation of all pairs within each group, of ``(groups, members, bands)``."""
    above = np.triu_indices(groups.shape[1], 1)
    return np.array([np.corrcoef(group)[above].mean() for group in groups])
