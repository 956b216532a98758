import hashlib
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from audioldm_utils.ddcm.codebook import CODEBOOKS, CyclicShift, Gaussian, KMeans, make
from audioldm_utils.errors import UserError
from tests.oracle import correlation, white

SHAPE = (3, 5, 7)
VALUES = 105
CENTRES = white(6, (3 * 2 * 2,), seed=9)
BOOKS = {
    "cyclic": ({"bases": 1}, 3),
    "cyclic, 3 bases": ({"bases": 3}, 2),
    "gaussian": ({"size": 37}, 3),
    "gaussian, one atom": ({"size": 1000}, 1),
    "turbo": ({"size": 50}, 7),
    "matching-pursuit": ({"size": 21, "coefficient_bits": 3}, 4),
    "k-means": ({"centres": CENTRES, "block": (2, 2)}, 1),
}
every_book = pytest.mark.parametrize("title", BOOKS)


def book_of(title, seed=3):
    return make(title.split(",")[0], SHAPE, seed, **BOOKS[title][0]), BOOKS[title][1]


def test_every_codebook_is_covered():
    assert {title.split(",")[0] for title in BOOKS} == set(CODEBOOKS)


@every_book
def test_choice_survives_the_integer_and_names_the_same_noise(title):
    book, atoms = book_of(title)
    choice = book.choose(4, white(5, SHAPE), atoms)
    assert choice.shape == (5, book.length(atoms))
    assert choice.dtype == torch.int64
    states = book.states(atoms)
    assert book.bits(atoms) == pytest.approx(math.log2(states))
    back = []
    for row in choice.tolist():
        value = book.to_integer(row, atoms)
        assert 0 <= value < states
        back.append(book.from_integer(value, atoms))
    assert torch.equal(torch.tensor(back), choice)
    again = make(book.name, book.shape, book.seed, **BOOKS[title][0])
    assert torch.equal(again.noise(4, choice), book.noise(4, choice))
    assert torch.equal(again.choose(4, white(5, SHAPE), atoms), choice)


@every_book
def test_every_integer_is_a_choice(title):
    book, atoms = book_of(title)
    states = book.states(atoms)
    for value in (0, 1, states // 3, states - 1):
        choice = book.from_integer(value, atoms)
        assert len(choice) == book.length(atoms)
        assert book.to_integer(choice, atoms) == value
    with pytest.raises(ValueError, match=r"outside|exceeds its codebook"):
        book.from_integer(states, atoms)
    with pytest.raises(ValueError, match=r"outside|not a choice"):
        book.to_integer([10**6] * book.length(atoms), atoms)


@every_book
def test_noise_does_not_depend_on_the_batch_or_the_order(title):
    book, atoms = book_of(title)
    choice = book.choose(4, white(5, SHAPE), atoms)
    noise = book.noise(4, choice)
    assert noise.shape == (5, *SHAPE)
    assert noise.dtype == torch.float32
    book.noise(9, choice)
    for clip in (3, 0):
        assert torch.equal(book.noise(4, choice[clip : clip + 1])[0], noise[clip])
    assert not torch.equal(book_of(title, seed=4)[0].noise(4, choice), noise) or title == "k-means"


@every_book
def test_choosing_beats_chance_and_any_clip_alone_chooses_the_same(title):
    book, atoms = book_of(title)
    residual = white(8, SHAPE, seed=1)
    choice = book.choose(2, residual, atoms)
    chosen = correlation(book.noise(2, choice), residual)
    random = correlation(book.noise(2, book.random_choice(2, range(8), atoms)), residual)
    assert min(chosen) > 0.1
    assert sum(chosen) / 8 > sum(random) / 8 + 0.15
    for clip in range(8):
        alone = book.choose(2, residual[clip : clip + 1] * 1e-3, atoms)
        assert torch.equal(alone[0], choice[clip])


@every_book
def test_random_choices_belong_to_the_clip_and_have_unit_variance(title):
    book, atoms = book_of(title)
    choice = book.random_choice(1, range(300), atoms)
    assert torch.equal(book.random_choice(1, [7], atoms)[0], choice[7])
    assert len({tuple(row) for row in choice.tolist()}) > 250 or book.states(atoms) < 2000
    noise = book.noise(1, choice)
    assert float(noise.std()) == pytest.approx(1, abs=0.1)
    assert float(noise.mean()) == pytest.approx(0, abs=0.1)


@pytest.mark.processes
def test_the_same_noise_in_another_process_with_other_threads():
    """Also golden: what these choices meant when the file format was defined."""
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "import torch; torch.set_num_threads(2)\n"
        "from tests.ddcm.test_codebook import digest; print(digest())"
    )
    root = str(Path(__file__).parents[2])
    shown = subprocess.run(
        [sys.executable, "-c", code, root],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == digest() == GOLDEN_DIGEST


GOLDEN_DIGEST = "cfe5ad30a4ab6015"


def digest():
    total = hashlib.sha256()
    for title in BOOKS:
        if title != "k-means":  # its atoms are fitted, not drawn
            book, atoms = book_of(title)
            choice = torch.tensor([book.from_integer(book.states(atoms) // 7, atoms)])
            total.update(book.noise(4, choice).numpy().astype("<f4").tobytes())
    return total.hexdigest()[:16]


def all_atoms(book, step=0):
    return book.noise(step, torch.arange(book.size)[:, None]).flatten(1)


@pytest.mark.parametrize("options", [{"bases": 1}, {"bases": 2}, {"bases": 1, "mask": False}])
@pytest.mark.parametrize("shape", [(5, 3, 7), (2, 8, 4), (1, 1, 1), (13,)])
def test_cyclic_choice_is_the_best_of_all_atoms(shape, options):
    book = CyclicShift(shape, 1, **options)
    residual = white(4, shape, seed=2)
    atoms = all_atoms(book)
    scores = residual.flatten(1) @ atoms.T
    choice = book.choose(0, residual)[:, 0]
    assert torch.allclose(scores.gather(1, choice[:, None])[:, 0], scores.max(1).values, atol=1e-4)
    if options["bases"] == 2:
        assert torch.equal(all_atoms(CyclicShift(shape, 1, bases=1)), atoms[: len(atoms) // 2])


def test_cyclic_atoms_are_shifts_under_the_mask():
    book, plain = CyclicShift((11,), 1), CyclicShift((11,), 1, mask=False)
    atoms = all_atoms(plain)
    assert torch.equal(atoms[2 * 3], torch.roll(atoms[0], 3))
    assert torch.equal(atoms[2 * 3 + 1], -atoms[2 * 3])
    mask = all_atoms(book)[4] / atoms[4]
    assert set(mask.tolist()) == {-1.0, 1.0}


def test_gaussian_choice_is_the_best_and_small_codebooks_are_the_beginning_of_large_ones():
    small, large = Gaussian(SHAPE, 5, size=37), Gaussian(SHAPE, 5, size=1000)
    assert torch.equal(all_atoms(large)[:37], all_atoms(small))
    residual = white(3, SHAPE)
    scores = residual.flatten(1) @ all_atoms(large).T
    assert torch.equal(large.choose(0, residual)[:, 0], scores.argmax(1))


def test_choosing_in_chunks_changes_nothing(monkeypatch):
    residual = white(3, SHAPE)
    books = [Gaussian(SHAPE, 5, size=1000), make("turbo", SHAPE, 5, size=1000)]
    books.append(make("matching-pursuit", SHAPE, 5, size=200))
    for temperature in (0.0, 1.0):
        for book, atoms in zip(books, (2, 9, 3), strict=True):
            if temperature and book.name != "gaussian":
                continue
            whole = book.choose(1, residual, atoms, temperature=temperature)
            monkeypatch.setattr("audioldm_utils.ddcm.codebook.greedy.CHUNK_VALUES", VALUES * 24)
            assert torch.equal(book.choose(1, residual, atoms, temperature=temperature), whole)
            monkeypatch.undo()


@pytest.mark.parametrize("name", ["cyclic", "gaussian"])
def test_each_atom_comes_from_its_own_codebook_and_helps(name):
    book = make(name, (8, 16, 4), 2)
    residual = white(4, (8, 16, 4))
    choice = book.choose(0, residual, 8)
    gains = [sum(correlation(book.noise(0, choice[:, :m]), residual)) for m in (1, 2, 4, 8)]
    assert gains == sorted(gains)
    first = book.noise(0, torch.full((1, 1), 5))
    both = book.noise(0, torch.full((1, 2), 5)) * math.sqrt(2)
    assert abs(correlation(both - first, first)[0]) < 0.2
    assert torch.equal(book.choose(0, residual, 3), choice[:, :3])


def test_a_step_without_atoms_costs_nothing_and_has_the_seeds_noise():
    book = CyclicShift(SHAPE, 2)
    choice = book.choose(3, white(2, SHAPE), 0)
    assert choice.shape == (2, 0)
    assert book.bits(0) == 0
    assert book.states(0) == 1
    noise = book.noise(3, choice)
    assert torch.equal(noise[0], noise[1])
    assert torch.equal(book.noise(3, book.random_choice(3, [1, 2], 0)), noise)


@pytest.mark.parametrize("name", ["cyclic", "gaussian", "k-means"])
def test_temperature_runs_from_the_best_atom_to_plain_sampling(name):
    options = {"cyclic": {}, "gaussian": {"size": 64}, "k-means": {"centres": CENTRES}}[name]
    shape = (3, 2, 2) if name == "k-means" else (2, 4, 4)
    book = make(name, shape, 2, **options, **({"block": (2, 2)} if name == "k-means" else {}))
    residual = white(1, shape, seed=3).repeat(400, 1, 1, 1)
    best = book.choose(0, residual[:1])
    assert torch.equal(book.choose(0, residual, temperature=1e-4), best.repeat(400, 1))
    seeds = range(400)
    means = []
    for temperature in (0.0, 0.3, 1.0, 3.0, math.inf):
        choice = book.choose(0, residual, temperature=temperature, seeds=seeds)
        means.append(sum(correlation(book.noise(0, choice), residual)) / 400)
    assert means == sorted(means, reverse=True)
    assert abs(means[-1]) < 0.08
    alone = book.choose(0, residual[:1], temperature=1.0, seeds=[5])
    assert torch.equal(alone[0], book.choose(0, residual, temperature=1.0, seeds=seeds)[5])
    # frequencies are those of the softmax of the standardised score
    atoms = all_atoms(book)
    scores = (atoms @ residual[0].flatten()) / residual[0].norm()
    expected = torch.softmax(scores / 0.5, 0)
    drawn = Counter(book.choose(0, residual, temperature=0.5, seeds=seeds)[:, 0].tolist())
    top = int(expected.argmax())
    share = float(expected[top])
    assert abs(drawn[top] / 400 - share) < 4 * math.sqrt(share * (1 - share) / 400)


@every_book
def test_weights_move_the_fidelity_to_where_they_lie(title):
    book, atoms = book_of(title)
    residual = white(64, SHAPE, seed=5)
    weights = torch.ones(1, 1, 5, 1)
    weights[:, :, 1:3] = 20.0
    plain = book.noise(0, book.choose(0, residual, atoms))
    heavy = book.noise(0, book.choose(0, residual, atoms, weights=weights))

    def match(noise, rows):
        return sum(correlation(noise[:, :, rows], residual[:, :, rows])) / 64

    assert match(heavy, slice(1, 3)) > match(plain, slice(1, 3)) + 0.02
    same = book.choose(0, residual, atoms, weights=torch.full((1,), 4.0))
    assert torch.equal(same, book.choose(0, residual, atoms))


def test_what_cannot_be_used_is_refused():
    book = CyclicShift(SHAPE)
    with pytest.raises(ValueError, match="wants \\(batch, 3, 5, 7\\)"):
        book.choose(0, white(1, (3, 5, 8)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        book.choose(0, torch.full((1, *SHAPE), math.nan))
    with pytest.raises(UserError, match="weights must be positive"):
        book.choose(0, white(1, SHAPE), weights=torch.zeros(1))
    with pytest.raises(UserError, match="temperature must not be negative"):
        book.choose(0, white(1, SHAPE), temperature=-1)
    with pytest.raises(UserError, match="codebook 'fractal'"):
        make("fractal", SHAPE)
    with pytest.raises(UserError, match="at least 2 atoms"):
        Gaussian(SHAPE, size=1)
    with pytest.raises(UserError, match="at least 1 base"):
        CyclicShift(SHAPE, bases=0)
    with pytest.raises(UserError, match="seed must lie"):
        CyclicShift(SHAPE, -1)
    with pytest.raises(UserError, match="without zeros"):
        CyclicShift((3, 0, 2))
    with pytest.raises(UserError, match="51 atoms cannot"):
        make("turbo", SHAPE, size=50).choose(0, white(1, SHAPE), 51)
    with pytest.raises(UserError, match="temperature 0"):
        make("turbo", SHAPE).choose(0, white(1, SHAPE), 5, temperature=1)
    with pytest.raises(UserError, match="coefficient_bits"):
        make("matching-pursuit", SHAPE, coefficient_bits=0)
    with pytest.raises(UserError, match="needs fitted centres"):
        make("k-means", SHAPE)
    with pytest.raises(UserError, match="do not serve blocks"):
        KMeans(SHAPE, centres=CENTRES, block=(3, 3))
    with pytest.raises(UserError, match="are not those of the file"):
        KMeans(SHAPE, centres=CENTRES, block=(2, 2), digest="0" * 16)
    with pytest.raises(UserError, match="one atom a block"):
        make("k-means", SHAPE, centres=CENTRES, block=(2, 2)).choose(0, white(1, SHAPE), 2)


def test_a_zero_residual_has_a_choice():
    for title in BOOKS:
        book, atoms = book_of(title)
        choice = book.choose(0, torch.zeros(2, *SHAPE), atoms)
        assert torch.isfinite(book.noise(0, choice)).all()
