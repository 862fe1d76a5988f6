"""An answer that came compressed, unpacked to no more than may be taken: a few kilobytes can be made to say gigabytes."""

import zlib
from collections.abc import Iterator

from nodeagent.errors import CatalogError

_GZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 256 * 1024


class BadGzip(CatalogError):
    """It is none, or not all of one."""


def unpacked(chunks: list[bytes], most: int) -> list[bytes]:
    """What is in `chunks`, which are let go, in pieces; of more than `most` bytes no more than that it is more.

    Raises:
        BadGzip: not what gzip makes, cut short, or with something after its end.
    """
    pieces, size = list[bytes](), 0
    try:
        for piece in _pieces(chunks):
            pieces.append(piece)
            size += len(piece)
            if size > most:
                break
    except zlib.error as error:
        pieces.clear()  # whoever holds the error holds this frame, too
        raise BadGzip(str(error)) from error
    return pieces


def _pieces(chunks: list[bytes]) -> Iterator[bytes]:
    """A few bytes at a time: a chunk may hold a thousand times its size."""
    unpack = zlib.decompressobj(_GZIP)
    chunks.reverse()
    while chunks:
        chunk = chunks.pop()
        if unpack.eof and chunk:
            raise zlib.error("there is something after its end")
        while chunk and not unpack.eof:
            yield unpack.decompress(chunk, _PIECE_BYTES)
            chunk = unpack.unconsumed_tail
    if not unpack.eof or unpack.unused_data:
        raise zlib.error("there is something after its end" if unpack.eof else "it is cut short")
