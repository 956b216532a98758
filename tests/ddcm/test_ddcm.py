"""DDCM against oracles that need no weights, and its exact round trip."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audioldm_utils.ddcm import DDCM, Codes, derived_seed, windowed
from audioldm_utils.ddcm import codebook as codebooks
from audioldm_utils.ddcm import windows as w
from audioldm_utils.ddcm.header import segment_frames
from audioldm_utils.model.schedule import Schedule, training_alphas_bar
from audioldm_utils.model.windows import crossfade, window_starts

CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "steps_offset": 1,
}
SHAPE = (8, 8, 16)
BARS = training_alphas_bar(CONFIG)


def oracle(x, t):
    """Exact denoiser of the prior N(0, I): eps = sqrt(1 - abar) x_t."""
    return math.sqrt(1 - BARS[t]) * x


def network(seed: int = 0):
    """The oracle plus a fixed convolution: its output hangs on all neighbours."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(8, 8, 3, 3, generator=generator) / 9

    def output(x, t):
        mixed = torch.tanh(torch.nn.functional.conv2d(x, kernel, padding=1))
        return math.sqrt(1 - BARS[t]) * x + 0.1 * math.sqrt(BARS[t]) * mixed

    return output


def latents(batch: int, shape=SHAPE, seed: int = 0):
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def clip(codes, index):
    """One clip of a batch's codes, of one segment each."""
    part = slice(index, index + 1)
    return Codes(tuple(choice[part] for choice in codes.choices), codes.shape, codes.latents[part])


def make(name="cyclic", steps=12, atoms=1, shape=SHAPE, **options):
    seed = options.pop("seed", 5)
    schedule = Schedule.from_config(CONFIG, steps)
    return DDCM(schedule, codebooks.make(name, shape, seed, **options), atoms)


CODERS = [
    ("gaussian", 1, {"size": 64}),
    ("gaussian", 1, {"size": 100}),
    ("gaussian", 3, {"size": 37}),
    ("cyclic", 1, {"bases": 1}),
    ("cyclic", 4, {"bases": 3}),
    ("cyclic", [2] * 5 + [1] * 5 + [0], {"bases": 1}),
]
SELECTIONS = [
    {},
    {"temperature": 0.5},
    {"temperature": math.inf},
    {"weights": torch.linspace(0.5, 2, 16)},
]


@pytest.mark.parametrize(("name", "atoms", "options"), CODERS)
@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: str(list(s)))
def test_decoded_latents_equal_the_encoders_bit_for_bit(name, atoms, options, selection):
    x0 = latents(3)
    coder = make(name, atoms=atoms, **options)
    codes = coder.encode(x0, network(), **selection)
    integers = [
        [coder.codebook.to_integer(row, max(count, 1)) for row in choice.tolist()]
        for choice, count in zip(codes.choices, coder.atoms, strict=True)
    ]
    again = make(name, atoms=atoms, **options)
    choices = tuple(
        torch.tensor([again.codebook.from_integer(value, max(count, 1)) for value in rows])
        for rows, count in zip(integers, again.atoms, strict=True)
    )
    replayed = Codes(choices, SHAPE, torch.zeros(3, *SHAPE))
    assert torch.equal(again.decode(replayed, network()), codes.latents)


@pytest.mark.processes
def test_codes_of_another_process_give_the_same_latents(tmp_path):
    coder = make("cyclic", atoms=2, bases=2)
    codes = coder.encode(latents(1), network())
    torch.save([choice.tolist() for choice in codes.choices], tmp_path / "choices")
    script = (
        "import sys, torch; sys.path.insert(0, 'tests/ddcm'); import test_ddcm as t\n"
        "torch.set_num_threads(int(sys.argv[2]))\n"
        "choices = tuple(map(torch.tensor, torch.load(sys.argv[1] + '/choices')))\n"
        "codes = t.Codes(choices, t.SHAPE, torch.zeros(1, *t.SHAPE))\n"
        "coder = t.make('cyclic', atoms=2, bases=2)\n"
        "torch.save(coder.decode(codes, t.network()), sys.argv[1] + '/latents')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(torch.get_num_threads())]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    assert torch.equal(torch.load(tmp_path / "latents"), codes.latents)


def test_clips_of_a_batch_do_not_touch_each_other():
    x0 = latents(3)
    coder = make("cyclic", steps=20)
    together = coder.encode(x0, network())
    for b in range(3):
        alone = coder.encode(x0[b : b + 1], network())
        part = clip(together, b)
        torch.testing.assert_close(alone.latents, part.latents, atol=1e-4, rtol=0)
        assert all(torch.equal(p, q) for p, q in zip(part.choices, alone.choices, strict=True))


# --- theory -----------------------------------------------------------------------------


def test_uniform_timesteps_are_worse_than_uniform_in_alpha_bar():
    """Issue of where the steps lie, at N = 4096 and 0.63 bits a value."""
    shape = (8, 32, 16)
    x0 = latents(2, shape)
    found = {}
    for name, options in {
        "uniform": {},
        "alpha-bar": {"placement": "alpha-bar", "stop": 0.5},
    }.items():
        schedule = Schedule.from_config(CONFIG, 200, **options)
        coder = DDCM(schedule, codebooks.make("cyclic", shape, 0))
        assert coder.bits / 4096 == pytest.approx(0.63, abs=0.01)
        codes = coder.encode(x0, oracle)
        found[name] = correlation(codes.latents, x0)
    assert found["uniform"] == pytest.approx(0.61, abs=0.03)
    assert found["alpha-bar"] >= 0.69
    assert found["alpha-bar"] < math.sqrt(1 - 2 ** (-2 * 0.635))


def test_several_atoms_and_the_bound():
    shape = (8, 32, 16)
    x0 = latents(2, shape)
    found = {}
    for placement, stop in (("uniform", None), ("alpha-bar", 0.9)):
        schedule = Schedule.from_config(CONFIG, 30, placement=placement, stop=stop)
        coder = DDCM(schedule, codebooks.make("cyclic", shape, 0), atoms=8)
        found[placement] = correlation(coder.encode(x0, oracle).latents, x0)
    assert found["uniform"] == pytest.approx(0.65, abs=0.03)
    assert 0.73 <= found["alpha-bar"] < math.sqrt(1 - 2 ** (-2 * 0.74))


def test_random_choices_do_not_follow_the_input():
    shape = (8, 32, 16)
    x0 = latents(2, shape)
    schedule = Schedule.from_config(CONFIG, 100)
    coder = DDCM(schedule, codebooks.make("cyclic", shape, 0))
    codes = coder.encode(x0, oracle, temperature=math.inf)
    assert abs(correlation(codes.latents, x0)) < 0.05
    assert float(codes.latents.std()) == pytest.approx(1, abs=0.1)


# --- callback, errors -------------------------------------------------------------------


def test_callback_sees_each_step_and_a_positive_cosine():
    x0, seen = latents(2), []
    coder = make("cyclic", steps=10, atoms=2)
    coder.encode(x0, network(), callback=seen.append)
    assert [step.index for step in seen] == list(range(10))
    assert [step.timestep for step in seen] == list(coder.schedule.timesteps)
    n = math.prod(SHAPE)
    ideal = math.sqrt(1 - 2 ** (-2 * coder.codebook.bits(2) / n))
    for step in seen[:-1]:
        cosine = step.cosine()
        assert cosine.shape == (2,)
        assert (cosine > 0.6 * ideal).all()
        assert (cosine < 1.4 * ideal).all()
    assert seen[-1].noise is None
    with pytest.raises(ValueError, match="not in the last step"):
        seen[-1].cosine()
    decoded = []
    coder.generate(8, network(), seeds=[1], callback=decoded.append)
    with pytest.raises(ValueError, match="no residual"):
        decoded[0].cosine()


def test_without_a_callback_the_result_is_the_same():
    coder = make("cyclic")
    quiet = coder.encode(latents(1), network())
    loud = coder.encode(latents(1), network(), callback=lambda step: step.x0_hat)
    assert torch.equal(quiet.latents, loud.latents)


def test_rejected_input():
    coder = make("cyclic")
    with pytest.raises(ValueError, match=r"latents are \(batch, 8, frames, 16\)"):
        coder.encode(latents(1)[0], network())
    with pytest.raises(ValueError, match="12 latent frames are no multiple"):
        coder.encode(latents(1, (8, 12, 16)), network())
    with pytest.raises(ValueError, match="for a codebook of"):
        coder.encode(latents(1, (4, 8, 16)), network())
    with pytest.raises(ValueError, match="NaN"):
        coder.encode(latents(1) * math.nan, network())
    with pytest.raises(ValueError, match="3 numbers of atoms for 11"):
        make("cyclic", atoms=[1, 1, 1])
    with pytest.raises(ValueError, match="negative"):
        make("cyclic", atoms=-1)
    codes = coder.encode(latents(1), network())
    with pytest.raises(ValueError, match="codes of 11 noisy steps for a schedule of 4"):
        make("cyclic", steps=5).decode(codes, network())


def test_a_single_step_has_no_codes():
    coder = make("cyclic", steps=1)
    codes = coder.encode(latents(2), network())
    assert codes.choices == ()
    assert torch.equal(coder.decode(codes, network()), codes.latents)


# --- generation -------------------------------------------------------------------------


def test_generation_replays_exactly_and_hangs_on_its_seed_alone():
    coder = make("cyclic", atoms=2)
    codes = coder.generate(8, network(), seeds=[3, 4])
    assert torch.equal(coder.decode(codes, network()), codes.latents)
    other = coder.generate(8, network(), seeds=[4])
    assert all(torch.equal(p[1:], q) for p, q in zip(codes.choices, other.choices, strict=True))
    assert not torch.equal(codes.latents[0], codes.latents[1])


def test_generated_latents_are_samples_of_the_prior():
    schedule = Schedule.from_config(CONFIG, 400)
    coder = DDCM(schedule, codebooks.make("gaussian", SHAPE, 0, size=64))
    z = coder.generate(8, oracle, seeds=range(16)).latents
    assert float(z.std()) == pytest.approx(1, abs=0.03)
    assert float(z.mean()) == pytest.approx(0, abs=0.03)


def test_ccfg_follows_its_prompt_with_a_decoder_that_has_none():
    schedule = Schedule.from_config(CONFIG, 40)
    coder = DDCM(schedule, codebooks.make("gaussian", SHAPE, 0, size=256))
    wish = torch.sign(latents(1, seed=9))

    def prompted(x, t):  # exact denoiser of N(wish, I)
        return math.sqrt(1 - BARS[t]) * (x - math.sqrt(BARS[t]) * wish)

    similarity = []
    for subset in (1, 8, 64):
        codes = coder.generate(8, oracle, seeds=[0, 1], towards=prompted, subset=subset)
        assert torch.equal(coder.decode(codes, oracle), codes.latents)
        similarity.append(float((codes.latents * wish).mean()))
    assert abs(similarity[0]) < 0.1
    assert similarity[0] + 0.2 < similarity[1]
    assert similarity[1] + 0.1 < similarity[2]
    with pytest.raises(ValueError, match="subset is 0"):
        coder.generate(8, oracle, seeds=[0], towards=prompted, subset=0)


def test_editing_moves_from_one_denoiser_to_the_other():
    coder = make("cyclic", steps=20, atoms=4)
    codes = coder.encode(latents(1), network(0))
    T = len(coder.schedule)
    unchanged = coder.decode(codes, network(0), edit=(T, network(1)))
    assert torch.equal(unchanged, codes.latents)
    entirely = coder.decode(codes, network(0), edit=(0, network(1)))
    assert torch.equal(entirely, coder.decode(codes, network(1)))
    changes = [
        float((coder.decode(codes, network(0), edit=(s, network(1))) - codes.latents).norm())
        for s in (0, T // 2, T)
    ]
    assert changes[0] > changes[1] > changes[2] == 0


def test_derived_seeds_are_golden():
    assert derived_seed(0) == 7165777869350885009
    assert derived_seed(7, 1, 2) == 14712231014046871151
    assert len({derived_seed(a, b) for a in range(30) for b in range(30)}) == 900


# --- long audio -------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "length", "overlap"), [(8, 8, 2), (20, 8, 2), (33, 8, 4)])
def test_windows_cover_and_weights_sum_to_one(frames, length, overlap):
    firsts = window_starts(frames, length, overlap)
    total = torch.zeros(frames, dtype=torch.float64)
    for first, weight in zip(firsts, w.ramps(frames, length, overlap), strict=True):
        total[first : first + length] += weight
    torch.testing.assert_close(total, torch.ones(frames, dtype=torch.float64))
    assert firsts[-1] + length == frames
    assert all(b - a <= length - overlap for a, b in itertools.pairwise(firsts))


def test_a_windowed_pointwise_denoiser_is_the_denoiser():
    x = latents(2, (8, 40, 16))
    pointwise = lambda x, t: x * 0.3  # noqa: E731
    torch.testing.assert_close(windowed(pointwise, 16, 4)(x, 5), pointwise(x, 5))
    short = x[:, :, :16]
    assert torch.equal(windowed(network(), 16, 4)(short, 5), network()(short, 5))


def split(x, length, overlap):
    """Overlapping windows of one clip's latents as a batch: the alternative to segments."""
    starts = window_starts(x.shape[2], length, overlap)
    return torch.cat([x[:, :, first : first + length] for first in starts])


def join(windows, frames, overlap):
    """The windows of ``split``, cross-faded."""
    starts = window_starts(frames, windows.shape[2], overlap)
    return crossfade(zip(starts, windows[:, None], strict=True), frames, overlap, dim=2)


def test_fold_and_split_come_back():
    x = latents(2, (8, 40, 16))
    assert torch.equal(w.unfold(w.fold(x, 5), 5), x)
    assert torch.equal(w.fold(x, 5)[1], x[0, :, 8:16])
    one = x[:1]
    torch.testing.assert_close(join(split(one, 16, 4), 40, 4), one)
    assert segment_frames(256, 256) == (1, 256)
    assert segment_frames(257, 256) == (2, 129)


def test_long_latents_in_segments_under_one_windowed_denoiser():
    x0 = latents(2, (8, 40, 16))
    coder = make("cyclic", steps=20, atoms=4)
    denoiser = windowed(network(), 16, 4)
    codes = coder.encode(x0, denoiser)
    assert coder.bits == pytest.approx(19 * 4 * math.log2(2 * 1024))
    assert all(choice.shape == (10, 4) for choice in codes.choices)
    assert torch.equal(coder.decode(codes, denoiser), codes.latents)
    whole = make("cyclic", steps=20, atoms=4, shape=(8, 40, 16)).encode(x0, denoiser)
    assert correlation(codes.latents, x0) > correlation(whole.latents, x0) + 0.1


def test_segments_beat_windows_coded_each_on_its_own_at_equal_bits():
    """What overlaps is coded once: more atoms for the rest."""
    part, frames, overlap = (8, 16, 16), 64, 4
    x0 = latents(1, (8, frames, 16))
    schedule = Schedule.from_config(CONFIG, 20, placement="alpha-bar", stop=0.9)
    joint = DDCM(schedule, codebooks.make("cyclic", part, 0), atoms=15)
    together = joint.encode(x0, oracle).latents
    windows = split(x0, 16, overlap)
    apart = DDCM(schedule, codebooks.make("cyclic", part, 0), atoms=12)
    assert len(windows) * apart.bits == pytest.approx(4 * joint.bits)
    decoded = join(apart.encode(windows, oracle).latents, frames, overlap)
    assert correlation(together, x0) > correlation(decoded, x0) + 0.01


# --- drift ------------------------------------------------------------------------------


def test_drift_of_another_batch_is_bounded():
    """The same codes in another batch: float error only, which the noise does not amplify."""
    x0 = latents(4)
    coder = make("cyclic", steps=50)
    codes = coder.encode(x0, network())
    alone = torch.cat([coder.decode(clip(codes, b), network()) for b in range(4)])
    assert float((alone - codes.latents).abs().max()) < 1e-4
