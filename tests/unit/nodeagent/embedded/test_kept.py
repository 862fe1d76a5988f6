"""An answer that is made once and given to many."""

import gzip
import threading

from nodeagent.embedded.kept import Kept, unpacked


def test_it_is_made_once_for_each_index() -> None:
    """Of two threads, too; and one that reads an older state does not take the newer one's place."""
    kept, made = Kept(), list[int]()

    def packed(index: int) -> bytes:
        return kept.packed(index, lambda: (made.append(index), b"%d" % index)[1])

    threads = [threading.Thread(target=packed, args=(7,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [7]
    assert [gzip.decompress(packed(index)) for index in (7, 6, 7, 8, 8)] == [b"7", b"6", b"7", b"8", b"8"]
    assert made == [7, 6, 8]


def test_what_is_packed_is_unpacked() -> None:
    assert unpacked(Kept().packed(1, lambda: b"text")) == b"text"
