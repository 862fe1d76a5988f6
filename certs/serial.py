"""Serial numbers that tell on whose word a certificate was signed, so that all of one word can be taken back at once.

A list of revoked serials grows with every renewal; a list of revoked *tags* has one line for each word taken back.
"""

import hashlib

_TAG_BYTES = 8
CHANCE_BYTES = 12  # 96 bits of chance: the CA/Browser Forum asks for 64
_TAG_CHARS = 3 * _TAG_BYTES - 1


def tag_of(word: str) -> str:
    """How serials of certificates begin that were signed on `word`, in Consul's form: `4a:1b:…`."""
    digest = bytearray(hashlib.sha256(word.encode()).digest()[:_TAG_BYTES])
    digest[0] = digest[0] & 0x3F | 0x40  # positive and never shorter: RFC 5280, 4.1.2.2 allows 20 bytes
    return digest.hex(":")


def tagged_serial(tag: str, chance: bytes) -> int:
    """A serial that begins with `tag`. chance: 12 random bytes."""
    assert len(chance) == CHANCE_BYTES
    return int.from_bytes(bytes.fromhex(tag.replace(":", "")) + chance, "big")


def tag_in(serial: str) -> str:
    """The tag that `serial`, in Consul's form, begins with; nobody's, where another CA made it."""
    return serial[:_TAG_CHARS]
