"""A study that costs nothing, for the tests of studies (worker processes import it)."""

from audioldm_utils.studies.registry import WHOLE


def study(clip, networks, rows, seed):
    level = float(clip.samples.std()) + seed
    rows.add(clip.name, "snr", level, "dB", category=clip.category, method="vae")


def together(clips, networks, rows, seed):
    """A study of groups: how many clips there are, under the first one's name."""
    rows.add(clips[0].name, "snr", float(len(clips)), "dB", method="vae")


def study_set(clips, networks, rows, seed):
    for clip in clips:
        for other in clips:
            band = "" if other is clip else f"with {other.name}"
            rows.add(clip.name, "mae", float(abs(other.samples).mean()), "1", method="x", band=band)


def study_samples(clips, networks, rows, seed, of_each=None):
    count = min(of_each or 4, 4)
    for number in range(count):
        rows.add(f"sample {number}", "mae", number + seed, "1", method="x")
    rows.add(WHOLE, "diversity", count, "1", method="x")
