"""Files of a stranger, under right checksums: refused in a sentence, or decoded to their sound.

Made at random from a number each, so that one that fails can be made again. Two hundred in an
ordinary run; ``AUDIOLDM_UTILS_HOSTILE_FILES=10000`` makes as many of them.
"""

import contextlib
import io
import os
import random
import resource
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from audioldm_utils.ddcm import bitstream, stream
from audioldm_utils.ddcm import codec as codecs
from audioldm_utils.ddcm.header import Header, latent_frames, layout, model_samples
from audioldm_utils.ddcm.packing import pack, varint, zigzag
from audioldm_utils.ddcm.settings import Settings
from audioldm_utils.errors import UserError
from audioldm_utils.model import checkpoint as checkpoints
from audioldm_utils.model.networks import Networks, window_starts
from audioldm_utils.model.streaming import block_networks

COUNT = int(os.environ.get("AUDIOLDM_UTILS_HOSTILE_FILES", "200"))
SECONDS, MEGABYTES = 2.0, 200.0
EDGES = (0, 1, 2, 3, 7, 8, 50, 127, 128, 255, 256, 999, 1000, 1024, 4096)
EDGES += tuple(2**n - m for n in (14, 16, 21, 28, 31, 32, 35, 63) for m in (0, 1, 4))
U32 = struct.Struct("<I")
HEAD = 13  # bytes of a stream's head


@pytest.fixture(scope="module")
def codec(tiny_checkpoint):
    """Loaded and run once, so that no file pays for it."""
    found = codecs.Codec(Networks(checkpoints.load(tiny_checkpoint, ())))
    for how in (Settings(kbps=None, steps=3), Settings(kbps=None, steps=3, prompt="rain")):
        found.decode(found.encode(sound(3.0), how).data)
    return found


def sound(seconds):
    noise = np.random.default_rng(2).standard_normal(round(16000 * seconds))
    return (0.1 * noise).astype(np.float32)


def refused(error, name):
    """False, if the error is a sentence that names the file."""
    assert name in str(error)
    assert "\n" not in str(error)
    return False


def reseal(body):
    return body + U32.pack(zlib.crc32(body, len(body)))


# --- .ddcm ------------------------------------------------------------------------------------


def edge(rng, usual):
    """The usual value, one at a bound, or one of any size."""
    pick = rng.random()
    if pick < 0.7:
        return rng.choice(usual)
    return rng.choice(EDGES) if pick < 0.9 else rng.getrandbits(rng.randint(1, 36))


def any_file(rng, fingerprint):
    """A file of fields without regard to each other, the codes of any length."""
    optional = b""
    for tag in rng.sample(range(1, 14), rng.choice([0, 0, 1, 2])):
        content = b"".join(varint(edge(rng, (1, 4, 8, 64))) for _ in range(rng.randint(0, 4)))
        optional += varint(tag) + varint(len(content)) + content
    placement = rng.choice([0, 0, 1, 2, 3, 4, 5, 6])
    parameters = {3: 2, 4: 1}.get(placement, 0)
    body = b"DDCM\x10" + fingerprint + bytes([edge(rng, range(5)) % 256])
    body += varint(edge(rng, (1, 2, 16, 1024))) + bytes([placement])
    body += b"".join(zigzag(rng.randint(-2000, 2000) / 1000) for _ in range(parameters))
    body += varint(edge(rng, (1, 2, 3, 10))) + varint(edge(rng, (0, 1, 2, 9)))
    body += varint(edge(rng, (0, 5))) + varint(edge(rng, (6000, 16000)))
    body += varint(edge(rng, (16000, 44100)))
    body += struct.pack("<e", rng.uniform(-1, 1)) + struct.pack("<h", rng.randint(-32768, 32767))
    body += varint(edge(rng, (len(optional),))) + optional
    return reseal(body + rng.randbytes(rng.choice([0, 0, 1, 2, 4, rng.randint(0, 300)])))


def fitting_file(rng, codec):
    """A file whose fields fit each other and whose codes have their length: mostly decoded.

    What it asks for is what its codes pay for, so it is kept to a second of sound in a few
    steps, or to a minute in one; more takes longer, as any file of that length does.
    """
    book = rng.choice(["cyclic", "gaussian", "turbo", "matching-pursuit"])
    long = rng.random() < 0.1
    steps = 1 if long else rng.choice([1, 2, 3, 5])
    rate = rng.choice([1000, 8000, 16000, 48000, 768_000])
    seconds = rng.uniform(1, 60) if long else rng.choice([0, 0.01, 0.3, rng.uniform(0, 1)])
    segment, window = 0, (0, 0)
    if not long:
        segment = rng.choice([0, 0, 1, 4, 5000])
        window = rng.choice([(0, 0), (0, 0), (8, 4), (16, 12), (2, 0), (300, 8)])
    header = Header(
        fingerprint=bytes.fromhex(codec.networks.checkpoint.fingerprint)[:6],
        samples=max(1, round(seconds * rate)),
        sample_rate=rate,
        codebook=book,
        size=rng.choice([2, 3, 64, 2**16]),
        steps=steps,
        atoms=rng.choice([0, 1, 2, 5, 30]) * (steps > 1),
        seed=rng.choice([0, 2**28 - 1]),
        scale=2.0 ** rng.uniform(-20, 20),
        mean=rng.uniform(-1, 1),
        eta=rng.choice([0.0, 0.5, 1.0]),
        guidance=rng.choice([1.0, 1.0, 2.5, -1000.0, 1000.0]),
        prompt=rng.choice([None, None, "rain", "雨" * rng.randint(1, 500)]),
        segment=segment,
        window=window,
        coefficient_bits=3 if book == "matching-pursuit" else 0,
    )
    parts, part = layout(header)
    coder = codecs.coder_for(codec.networks, header, part)
    radices = [coder.codebook.states(n) for n in coder.atoms if n for _ in range(parts)]
    codes = [rng.randrange(radix) for radix in radices]
    return bitstream.to_bytes(header, pack(codes, radices))


def mutated(rng, data):
    """Some bytes changed, put in, left out or doubled before the checksum."""
    body = data[:-4]
    for _ in range(rng.choice([1, 1, 2, 4])):
        i, cut = rng.randrange(len(body)), rng.choice([0, 1, 1, 2])
        body = body[:i] + rng.randbytes(rng.choice([0, 1, 1, 2, 9])) + body[i + cut :]
    return reseal(body)


def make_ddcm(number, codec, plain):
    rng = random.Random(number)
    kind = rng.random()
    if kind < 0.4:
        return any_file(rng, bytes.fromhex(codec.networks.checkpoint.fingerprint)[:6])
    if kind < 0.6:
        try:
            return fitting_file(rng, codec)
        except ValueError:  # the codebook or the file has no such header
            return any_file(rng, bytes(6))
    return mutated(rng, rng.choice(plain))


def check_ddcm(data, codec):
    """Decode; whether it was accepted. What is accepted is what header and codes say."""
    try:
        found = codec.decode(data, "a.ddcm")
    except UserError as error:
        return refused(error, "a.ddcm")
    header, payload, _ = bitstream.from_bytes(data)
    assert found.samples.shape == (model_samples(header.samples, header.sample_rate),)
    assert np.isfinite(found.samples).all()
    most = abs(header.mean) + header.scale  # the vocoder ends in a tanh
    assert np.abs(found.samples).max() <= most * 1.01
    coder, codes, _, _ = codec.open(data)
    radices = codecs._radices(coder, layout(header)[0])
    assert pack(codecs._digits(coder, codes), radices) == payload  # every bit of it counts
    return True


# --- .ddcs ------------------------------------------------------------------------------------


def parts_of(data):
    """Head, records and end, without the checksums."""
    seal, position, parts = 4 * (data[4] > 1), 0, []
    while position < len(data):
        end = position + (8 + U32.unpack_from(data, position)[0] if parts else HEAD)
        parts.append(data[position:end])
        position = end + seal
    return parts


def sealed(parts):
    data, total = b"", 0
    for part in parts:
        total = zlib.crc32(part, total)
        data += part + (U32.pack(total) if parts[0][4] > 1 else b"")
    return data


def put(part, position, value):
    return part[:position] + value + part[position + len(value) :]


def make_ddcs(number, streams):
    """A stream with some parts changed; in a fifth of them the checksums are left as they were."""
    rng = random.Random(number)
    whole = rng.choice(streams)
    if whole[4] > 1 and rng.random() < 0.2:
        i = rng.randrange(len(whole))
        return rng.choice(
            [
                put(whole, i, bytes([whole[i] ^ 1 << rng.randrange(8)])),
                whole[:i] + whole[i + rng.randint(1, 9) :],
                whole[:i] + rng.randbytes(rng.randint(1, 9)) + whole[i:],
            ]
        )
    parts = parts_of(whole)
    for _ in range(rng.choice([0, 1, 1, 2])):
        i, j = rng.randrange(1, len(parts)), rng.randrange(1, len(parts))
        kind = rng.randrange(8)
        if kind == 0:
            value = struct.pack("<HH", edge(rng, (32, 32, 16)) % 2**16, edge(rng, (8, 4)) % 2**16)
            parts[0] = put(parts[0], 5, value)
        elif kind == 1:
            parts[0] = put(parts[0], 9, rng.choice([rng.randbytes(4), struct.pack("<f", 0.5)]))
        elif kind == 2:
            parts[i] = put(parts[i], 4, U32.pack(edge(rng, (0, 24, 48, 15000)) % 2**32))
        elif kind == 3:
            parts[i] = put(parts[i], 0, U32.pack(edge(rng, (0, 40)) % 2**32))
        elif kind == 4:
            parts.insert(i, parts[j])
        elif kind == 5 and len(parts) > 2:
            del parts[i]
        elif kind == 6:
            parts[i], parts[j] = parts[j], parts[i]
        elif len(parts[i]) > 8:
            block = mutated(rng, parts[i][8:])
            parts[i] = U32.pack(len(block)) + parts[i][4:8] + block
    tail = rng.randbytes(rng.randint(1, 40)) if rng.random() < 0.1 else b""
    return sealed(parts) + tail


def check_ddcs(data, codec):
    """Decode; whether it was accepted. What is accepted has the layout that its head says."""
    try:
        pieces = list(stream.decode_stream(io.BytesIO(data).read, codec.networks, "a.ddcs"))
    except UserError as error:
        return refused(error, "a.ddcs")
    head, *records, end = parts_of(data)
    assert sealed([head, *records, end]) == data
    _, _, window, overlap, peak = struct.unpack("<4sBHHf", head)
    count = U32.unpack_from(end, 4)[0]
    frames = 4 * latent_frames(count) if count else 0
    wanted = window_starts(frames, window, overlap) if count else []
    assert [U32.unpack_from(record, 4)[0] for record in records] == wanted
    samples = np.concatenate([np.zeros(0, np.float32), *pieces])
    assert samples.shape == (count,)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max(initial=0) <= 2 * peak * 1.01  # full scale over the front end's 0.5
    return True


# --- both ---------------------------------------------------------------------------------------


def memory():
    """The most that this process has held since :func:`forget`, or ever, MB."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # of macOS, bytes


def forget():
    """Let the most that was held begin anew, where the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def go_through(make, check, what):
    """Every file within its time and memory; the numbers are printed (``pytest -s``)."""
    begin = memory()
    accepted, slowest, longest, most = 0, 0.0, 0.0, 0.0
    for number in range(COUNT // 2):
        data = make(number)
        forget()
        before, processor, clock = memory(), time.process_time(), time.perf_counter()
        try:
            accepted += check(data)
        except Exception as error:
            raise AssertionError(f"{what} file {number}: {data.hex()}") from error
        took, held = time.process_time() - processor, memory() - before
        slowest, longest = max(slowest, took), max(longest, time.perf_counter() - clock)
        most = max(most, held)
        assert took <= SECONDS, f"{what} file {number} took {took:.1f} s: {data.hex()}"
        assert held <= MEGABYTES, f"{what} file {number} took {held:.0f} MB: {data.hex()}"
    print(
        f"\n{COUNT // 2} {what} files: {accepted} accepted, {COUNT // 2 - accepted} refused; at "
        f"most {slowest:.2f} s of processor ({longest:.2f} s by the clock) and {most:.0f} MB a "
        f"file, {memory() - begin:.0f} MB after all"
    )
    assert 0 < accepted < COUNT // 2


def test_ddcm_files_of_a_stranger(codec):
    how = (
        Settings(kbps=None, steps=4, atoms=2),
        Settings(kbps=None, steps=3, codebook="turbo", size=50, atoms=5, prompt="rain"),
        Settings(kbps=None, steps=3, segment=6, window=12, overlap=4),
        Settings(kbps=None, timesteps=(900, 500, 20), eta=0.5),
    )
    plain = [codec.encode(sound(0.5), each).data for each in how]
    assert all(check_ddcm(data, codec) for data in plain)
    go_through(
        lambda number: make_ddcm(number, codec, plain), lambda d: check_ddcm(d, codec), ".ddcm"
    )


def test_ddcs_streams_of_a_stranger(codec):
    streams = []
    for seconds in (0.1, 0.7):
        blocks = block_networks(codec.networks, 0.32, 0.08)
        encoder = stream.Encoder(blocks, Settings(kbps=None, steps=3))
        data = encoder.push(sound(seconds)) + encoder.finish()
        head, *rest = parts_of(data)
        streams += [data, sealed([put(head, 4, b"\1"), *rest])]
    assert all(check_ddcs(data, codec) for data in streams)
    go_through(
        lambda number: make_ddcs(number, streams), lambda data: check_ddcs(data, codec), ".ddcs"
    )
