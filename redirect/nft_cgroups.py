"""What a set keyed by cgroup holds, asked by netlink: for each cgroup that nft lists it walks the whole cgroup tree.

Source: linux/netfilter/nf_tables.h.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from redirect.cgroup import element_of
from redirect.errors import RedirectError
from redirect.netlink import decode_attributes, dump, encode_attribute, iterate_attributes

_NETFILTER = 12
_GET_ELEMENTS = (10 << 8) | 13  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETSETELEM
_INET = 1  # NFPROTO_INET
_NFGENMSG = struct.Struct(">BBH")  # family, version, resource id
_TABLE, _SET, _ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_KEY, _DATA, _VALUE = 1, 2, 1  # NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA, NFTA_DATA_VALUE
_NUMBER, _MARK = struct.Struct("=Q"), struct.Struct("=I")


class CgroupElement(NamedTuple):
    """A cgroup by its number, and what a map makes of it."""

    number: int
    mark: int | None = None


def read_cgroups(table: str, name: str) -> tuple[CgroupElement, ...]:
    """The elements of a set or map of an inet table.

    Raises:
        RedirectError: it is not there.
    """
    names = (encode_attribute(kind, value.encode() + b"\0") for kind, value in ((_TABLE, table), (_SET, name)))
    try:
        rows = tuple(dump(_NETFILTER, _GET_ELEMENTS, _NFGENMSG.pack(_INET, 0, 0) + b"".join(names)))
    except OSError as error:
        raise RedirectError(f"elements of {name} in table inet {table} cannot be listed: {error.strerror or error}") from error
    return tuple(element for row in rows for element in decode_elements(row))


def decode_elements(row: bytes) -> Iterator[CgroupElement]:
    """The elements in one message of a listing; what is none is passed over."""
    listed = decode_attributes(row[_NFGENMSG.size :]).get(_ELEMENTS, b"")
    for _, element in iterate_attributes(listed):
        parts = decode_attributes(element)
        key, data = (decode_attributes(parts.get(kind, b"")).get(_VALUE, b"") for kind in (_KEY, _DATA))
        if len(key) == _NUMBER.size:
            mark = _MARK.unpack(data)[0] if len(data) == _MARK.size else None
            yield CgroupElement(_NUMBER.unpack(key)[0], mark)


def name_cgroups(mount: str, elements: Iterable[CgroupElement]) -> Iterator[str]:
    """The elements as nft takes them; without those whose cgroups have ended."""
    wanted = {element.number: element for element in elements}
    for path, _, _ in os.walk(mount) if wanted else ():
        try:
            element = wanted.get(Path(path).stat().st_ino)
        except FileNotFoundError:  # it has just ended
            continue
        if element and (name := element_of(mount, path.removeprefix(mount))):
            yield name if element.mark is None else f"{name} : {element.mark:#010x}"
