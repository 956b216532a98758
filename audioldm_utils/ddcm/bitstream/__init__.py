"""The ``.ddcm`` file: header, codes packed to the bit, checksum.

Layout, version 1.0 (``v`` is an unsigned LEB128 integer, ``z`` a zigzag-coded signed one,
both 7 bits a byte; integers of fixed width are little-endian):

===================  ==========  =====================================================
field                bytes       meaning
===================  ==========  =====================================================
magic                4           ``DDCM``
version              1           major in the high four bits, minor in the low four
checkpoint           6           first 48 bits of the checkpoint's SHA-256 fingerprint
codebook             1           index into ``CODEBOOKS``
size                 v, 1 to 3   bases of the codebook, or atoms in it
placement            1           index into ``PLACEMENTS``
parameters           z, 0 to 6   of the placement, in thousandths
steps                v, 1 to 2   reverse steps, T
atoms                v, 1 to 3   over all noisy steps, spread evenly unless given
seed                 v, 1 to 4   of the codebook and of the starting noise
samples              v, 1 to 5   of the original
sample rate          v, 1 to 3   of the original, Hz
mean                 2           of the original, half-precision float
scale                2           log2 of the original's gain, in 1/1024
optional length      v, 1 to 2   bytes of the optional fields
===================  ==========  =====================================================

then the optional fields (each: tag ``v``, length ``v``, content), the payload (mixed-radix
integers, see ``packing.pack``) and CRC-32 of all before it (4 bytes; it starts from the
length, so appended bytes are noticed too). Fixed part and checksum take 28 to 48 bytes.

An optional field is written only if it differs from its default. A reader skips tags it
does not know, so a newer minor version may add fields; a newer major one is refused.
"""

from audioldm_utils.ddcm.bitstream.file import (
    MAJOR,
    check_checkpoint,
    describe,
    from_bytes,
    read,
    stored,
    to_bytes,
    write,
)
from audioldm_utils.ddcm.bitstream.header import (
    CODEBOOKS,
    FINGERPRINT_BYTES,
    FIXED_LIMIT,
    PLACEMENTS,
    Header,
    Sizes,
)
from audioldm_utils.ddcm.bitstream.packing import pack, payload_bits, unpack

__all__ = [
    "CODEBOOKS",
    "FINGERPRINT_BYTES",
    "FIXED_LIMIT",
    "MAJOR",
    "PLACEMENTS",
    "Header",
    "Sizes",
    "check_checkpoint",
    "describe",
    "from_bytes",
    "pack",
    "payload_bits",
    "read",
    "stored",
    "to_bytes",
    "unpack",
    "write",
]
