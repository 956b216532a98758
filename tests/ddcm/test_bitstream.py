"""The .ddcm file: exact, compact, and closed to anything damaged or foreign."""

import contextlib
import dataclasses
import math
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_utils.ddcm import bitstream
from audioldm_utils.ddcm.header import (
    ATOMS,
    CHOICES,
    CODEBOOKS,
    FIXED_LIMIT,
    SECONDS,
    WINDOW,
    Header,
)
from audioldm_utils.ddcm.packing import pack, payload_bits, unpack
from audioldm_utils.errors import UserError

FINGERPRINT = bytes(range(6))
ENOUGH = 2**25  # bytes of codes for whatever a header may ask for
PLAIN = Header(fingerprint=FINGERPRINT, samples=480_000, sample_rate=48_000)
FULL = Header(
    fingerprint=FINGERPRINT,
    samples=2_400_000,
    sample_rate=192_000,
    codebook="turbo",
    size=16384,
    placement="given",
    steps=4,
    atoms=7,
    seed=2**28 - 1,
    mean=-0.01,
    scale=0.125,
    eta=0.5,
    guidance=3.5,
    prompt="雨打屋顶",
    negative_prompt="noise",
    timesteps=(999, 500, 20, 1),
    atoms_per_step=(1, 2, 4),
    segment=256,
    window=(256, 64),
    codebook_digest=b"\x01\x02",
    coefficient_bits=3,
)


def reseal(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body, len(body)))


@st.composite
def headers(draw):
    """Any header that the file holds, of up to ten minutes; longer ones are tested below."""
    codebook = draw(st.sampled_from(list(CODEBOOKS)))
    rate = draw(st.integers(1000, 768_000))
    steps = draw(st.integers(1, 2**14 - 1))
    parts = draw(st.integers(1, 60))
    most = min(ATOMS * (steps - 1), CHOICES // (parts + 1), 2**21 - 1)
    window = st.integers(0, 499).flatmap(
        lambda overlap: st.tuples(st.integers(2 * overlap + 1, 999), st.just(overlap))
    )
    prompt = draw(st.none() | st.text(max_size=40))
    return Header(
        fingerprint=draw(st.binary(min_size=6, max_size=6)),
        samples=draw(st.integers(1, 10 * parts * rate)),
        sample_rate=rate,
        codebook=codebook,
        size=draw(st.integers(1, 2**21 - 1) if codebook != "turbo" else st.just(2**16)),
        placement="alpha-bar",
        parameters=draw(
            st.tuples(*[st.integers(-1_000_000, 1_000_000).map(lambda v: v / 1000)] * 2)
        ),
        steps=steps,
        atoms=draw(st.integers(0, most)),
        seed=draw(st.integers(0, 2**28 - 1)),
        mean=draw(st.floats(-1, 1, width=16)),
        scale=draw(st.integers(-30000, 30000).map(lambda v: 2.0 ** (v / 1024))),
        eta=draw(st.integers(0, 1000).map(lambda v: v / 1000)),
        guidance=1.0 if prompt is None else draw(st.integers(-5000, 50000)) / 1000,
        prompt=prompt,
        segment=draw(st.just(0) | st.integers(256, 4096)),
        window=draw(st.just((0, 0)) | window),
        codebook_digest=draw(st.binary(max_size=8)),
    )


@given(headers(), st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_header_comes_back(header, payload):
    assert bitstream.stored(header) == header
    with contextlib.suppress(UserError):  # such payloads are too short for most
        bitstream.from_bytes(bitstream.to_bytes(header, payload))
    payload += bytes(ENOUGH // 16)
    data = bitstream.to_bytes(header, payload)
    back, codes, sizes = bitstream.from_bytes(data)
    assert back == header
    assert codes == payload
    assert sizes.file == len(data)
    assert sizes.payload == len(payload)
    assert 28 <= sizes.fixed <= FIXED_LIMIT


def test_worst_and_usual_size_of_the_fixed_part():
    long = dataclasses.replace(
        PLAIN,
        samples=SECONDS * 768_000,
        sample_rate=768_000,
        size=2**21 - 1,
        placement="alpha-bar",
        parameters=(-1000.0, 1000.0),
        steps=129,
        atoms=512,
        seed=2**28 - 1,
    )
    fine = dataclasses.replace(long, samples=2**21, steps=2**14 - 1, atoms=2**20)
    for worst in (long, fine):
        _, _, sizes = bitstream.from_bytes(bitstream.to_bytes(worst, bytes(ENOUGH)))
        assert 46 <= sizes.fixed <= FIXED_LIMIT
    _, _, sizes = bitstream.from_bytes(bitstream.to_bytes(PLAIN, bytes(100)))
    assert sizes.fixed == 32
    assert sizes.optional == 0


def test_full_header_comes_back_and_its_options_are_counted():
    data = bitstream.to_bytes(FULL, b"abc")
    back, payload, sizes = bitstream.from_bytes(data)
    assert payload == b"abc"
    assert back.mean == pytest.approx(-0.01, rel=1e-3)
    assert dataclasses.replace(back, mean=FULL.mean) == FULL
    prompt_free = dataclasses.replace(FULL, prompt=None)  # the negative one is left
    shorter = bitstream.to_bytes(prompt_free, b"abc")
    assert len(data) - len(shorter) == 2 + len(FULL.prompt.encode())
    assert bitstream.from_bytes(shorter)[2].optional == sizes.optional - 14


def test_gain_is_kept_within_its_stated_error():
    header = dataclasses.replace(PLAIN, mean=0.0123, scale=0.3)
    back = bitstream.stored(header)
    assert back.scale == pytest.approx(0.3, rel=7e-4)
    assert back.mean == pytest.approx(0.0123, rel=1e-3)
    assert bitstream.stored(back) == back


def test_atoms_are_spread_evenly_over_the_noisy_steps():
    header = dataclasses.replace(PLAIN, steps=5, atoms=6)
    assert header.atom_counts == (1, 2, 1, 2)
    assert dataclasses.replace(PLAIN, steps=50).atom_counts == (1,) * 49
    assert FULL.atom_counts == (1, 2, 4)


def test_true_rate_counts_every_byte():
    _, _, sizes = bitstream.from_bytes(bitstream.to_bytes(PLAIN, bytes(100)))
    assert sizes.kbps == pytest.approx(8 * 132 / 10 / 1000)
    assert sizes.payload_kbps == pytest.approx(0.08)


@pytest.mark.parametrize("header", [PLAIN, FULL])
def test_every_flipped_byte_is_refused(header):
    data = bitstream.to_bytes(header, bytes(range(40)))
    for position in range(len(data)):
        for value in range(256):
            if value != data[position]:
                wrong = data[:position] + bytes([value]) + data[position + 1 :]
                with pytest.raises(UserError):
                    bitstream.from_bytes(wrong)


@pytest.mark.parametrize("header", [PLAIN, FULL])
def test_every_missing_doubled_or_cut_byte_is_refused(header):
    data = bitstream.to_bytes(header, bytes(range(40)))
    for position in range(len(data)):
        for wrong in (
            data[:position] + data[position + 1 :],
            data[: position + 1] + data[position:],
            data[:position],
            data[position + 1 :],
        ):
            with pytest.raises(UserError):
                bitstream.from_bytes(wrong)


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_thousands_of_mutations_are_refused(random):
    original = bitstream.to_bytes(FULL, bytes(range(60)))
    for _ in range(20):
        data = original
        for _ in range(random.randint(1, 4)):
            position, cut = random.randrange(len(original)), random.choice([0, 0, 1, 2, 20])
            data = data[:position] + random.randbytes(random.randint(0, 8)) + data[position + cut :]
        if data != original:
            with pytest.raises(UserError):
                bitstream.from_bytes(data)


def test_appended_checksum_residue_is_refused():
    # A CRC alone would accept data followed by the CRC's own residue.
    data = bitstream.to_bytes(PLAIN, bytes(8))
    for tail in (bytes(4), b"\x1c\xdf\x44\x21", b"\xff" * 4):
        with pytest.raises(UserError):
            bitstream.from_bytes(data + tail)


@given(st.binary(max_size=80))
@settings(max_examples=500, deadline=None)
def test_a_valid_checksum_over_nonsense_still_gives_one_sentence(nonsense):
    with pytest.raises(UserError):
        bitstream.from_bytes(reseal(b"DDCM\x10" + nonsense[:20]))
    body = bitstream.to_bytes(PLAIN, b"")[:-4]
    data = reseal(body[:11] + nonsense)
    with contextlib.suppress(UserError):  # any other exception fails the test
        assert isinstance(bitstream.from_bytes(data)[0], Header)


def test_newer_minor_version_is_read_and_newer_major_refused():
    fixed, optional = bitstream._header_bytes(dataclasses.replace(PLAIN, prompt="rain"))
    unknown, codes = bytes([100, 3]) + b"new", bytes(range(100))
    body = (
        fixed[:4]
        + bytes([bitstream.MAJOR << 4 | 7])
        + fixed[5:-1]
        + bytes([len(optional) + len(unknown)])
        + optional
        + unknown
        + codes
    )
    header, payload, sizes = bitstream.from_bytes(reseal(body))
    assert header == dataclasses.replace(PLAIN, prompt="rain")
    assert payload == codes
    assert sizes.optional == len(optional) + len(unknown)
    assert sizes.file == len(body) + 4
    newer = body[:4] + bytes([bitstream.MAJOR + 1 << 4]) + body[5:]
    with pytest.raises(UserError, match=r"version 2\.0, newer"):
        bitstream.from_bytes(reseal(newer))


def test_foreign_and_missing_files(tmp_path):
    (tmp_path / "song.wav").write_bytes(b"RIFF" + bytes(100))
    (tmp_path / "empty.ddcm").write_bytes(b"")
    for name in ("song.wav", "empty.ddcm"):
        with pytest.raises(UserError, match=f"{name} is not a .ddcm file"):
            bitstream.read(tmp_path / name)
    with pytest.raises(UserError, match="is not a file"):
        bitstream.read(tmp_path / "none.ddcm")


def test_write_then_read(tmp_path):
    path = tmp_path / "a.ddcm"
    path.write_bytes(bitstream.to_bytes(FULL, b"xyz"))
    header, payload, sizes = bitstream.read(path)
    assert (payload, sizes.payload) == (b"xyz", 3)
    assert path.stat().st_size == sizes.file
    assert bitstream.to_bytes(header, payload) == path.read_bytes()


def test_wrong_checkpoint_is_named():
    bitstream.check_checkpoint(PLAIN, FINGERPRINT.hex() + "aa" * 26, "a.ddcm", "mini")
    with pytest.raises(UserError, match=r"a\.ddcm was encoded with .*000102030405.*mini"):
        bitstream.check_checkpoint(PLAIN, "ff" * 32, "a.ddcm", "mini")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": 2**28}, "seed is"),
        ({"codebook": "x"}, "codebook 'x'"),
        ({"placement": "x"}, "placement 'x'"),
        ({"parameters": (1.0,)}, "has 0 parameters"),
        ({"placement": "alpha-bar", "parameters": (0.25, 0.9701)}, "0.9701 is no multiple"),
        ({"placement": "given"}, "belong together"),
        ({"placement": "given", "timesteps": (3, 3), "steps": 2}, "strictly falling"),
        ({"atoms_per_step": (1,)}, "atoms_per_step"),
        ({"mean": math.nan}, "mean is nan"),
        ({"scale": 0.0}, "scale is 0"),
        ({"fingerprint": b"1"}, "fingerprint has 1"),
        ({"sample_rate": 999}, "sample_rate is 999"),
        ({"sample_rate": 768_001}, "sample_rate is 768001"),
        ({"samples": SECONDS * 48_000 + 1}, "s of sound"),
        ({"atoms": 49 * ATOMS + 1}, "4097 atoms"),
        ({"samples": 48_000 * 10_000, "atoms": 49 * 50}, "a file holds 1048576"),
        ({"steps": 1}, "no step"),
        ({"codebook": "turbo", "size": 2**16 + 1}, "turbo"),
        ({"codebook": "turbo", "size": 9, "atoms": 490}, "10 atoms of a codebook of 9"),
        ({"window": (64, 64)}, "overlap"),
        ({"window": (0, 5)}, "overlap"),
        ({"window": (8, 200)}, "overlap"),
        ({"window": (WINDOW + 1, 0)}, "at most 1024"),
        ({"eta": 1.001}, "eta is"),
        ({"guidance": 2.5}, "needs a prompt"),
        ({"coefficient_bits": 9}, "coefficient_bits is 9"),
    ],
)
def test_headers_that_cannot_be_stored(change, message):
    with pytest.raises(ValueError, match=message):
        bitstream.to_bytes(dataclasses.replace(PLAIN, **change), b"")


@pytest.mark.parametrize(
    ("change", "size", "message"),
    [
        ({}, 6, "49 atoms in 1 segments do not go into its 6 bytes"),
        ({"samples": 48_000 * 60, "steps": 1, "atoms": 0}, 0, "too few for 60 s"),
        ({"samples": 768_000 * 5, "sample_rate": 768_000, "atoms": 0}, 0, "too few for 5 s"),
        ({"steps": 1000, "atoms": 0}, 0, "too few for 1000 steps of 1 windows"),
        ({"window": (2, 1), "atoms": 0}, 0, "too few for 50 steps of 249 windows"),
        ({"window": (64, 63), "atoms": 1}, 9, "too few for 50 steps of 187 windows"),
    ],
)
def test_a_header_that_its_codes_do_not_pay_for(change, size, message):
    """Valid in itself and under a right checksum; every bound lets ordinary files pass."""
    header = dataclasses.replace(PLAIN, **change)
    with pytest.raises(UserError, match=message):
        bitstream.from_bytes(bitstream.to_bytes(header, bytes(size)))
    bitstream.from_bytes(bitstream.to_bytes(header, bytes(2000)))


def test_a_file_too_large_is_not_read(tmp_path):
    with (tmp_path / "a.ddcm").open("wb") as file_:
        file_.truncate(2**40)  # takes no space
    with pytest.raises(UserError, match="too large"):
        bitstream.read(tmp_path / "a.ddcm")


def test_long_optional_fields_are_refused_before_they_are_read():
    body = bitstream.to_bytes(PLAIN, b"")[:-5] + bytes([0x80, 0x80, 2]) + bytes(2**15)
    with pytest.raises(UserError, match="optional fields take 32768 bytes"):
        bitstream.from_bytes(reseal(body))


def test_a_prompt_that_is_too_long():
    with pytest.raises(UserError, match="shorten the prompt"):
        bitstream.to_bytes(dataclasses.replace(PLAIN, prompt="x" * 20000), b"")


# --- packing ----------------------------------------------------------------------------


def test_packing_by_hand():
    # 2 of 3, 1 of 5, 0 of 7: 2·35 + 1·7 + 0 = 77 of 105, in 7 bits and one zero.
    assert payload_bits([3, 5, 7]) == 7
    assert pack([2, 1, 0], [3, 5, 7]) == bytes([77 << 1])
    assert unpack(bytes([154]), [3, 5, 7]) == [2, 1, 0]


def test_packing_loses_less_than_a_bit_a_block():
    radices = [1000] * 5000
    exact = 5000 * math.log2(1000)
    assert exact <= payload_bits(radices) < exact + math.ceil(5000 / 1024)
    assert payload_bits(radices) < 5000 * 10 - 160


@given(st.data(), st.lists(st.integers(1, 2**70), max_size=30), st.integers(1, 130))
@settings(max_examples=100, deadline=None)
def test_packing_any_radices(data, radices, repeats):
    radices = radices * repeats
    random = data.draw(st.randoms(use_true_random=False))
    codes = [random.randrange(radix) for radix in radices]
    packed = pack(codes, radices)
    assert len(packed) == math.ceil(payload_bits(radices) / 8)
    assert unpack(packed, radices) == codes


def test_packing_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="not below its radix"):
        pack([5], [5])
    with pytest.raises(ValueError, match="1 codes for 2"):
        pack([5], [6, 6])
    with pytest.raises(ValueError, match="1 bytes where 2"):
        unpack(b"a", [1000])
    with pytest.raises(ValueError, match="padding"):
        unpack(b"\x01", [3])
    with pytest.raises(ValueError, match="exceeds its codebook"):
        unpack(b"\xff", [255])
