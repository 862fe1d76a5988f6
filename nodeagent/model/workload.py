"""Who is at the local end of a connection, in the kernel's words and in SPIRE's."""

import re
from typing import Literal

import msgspec

How = Literal["stamp", "conntrack", "certificate", "unknown"]
"""How a workload was known: the mark of its SYN, conntrack and sock_diag, its peer certificate, not at all."""

NO_ID = 2**32 - 1
"""The kernel's word for no user and no group, -1 as it takes it: the id of nobody."""

SelectorKind = Literal["systemd:id", "unix:uid"]


class Workload(msgspec.Struct, frozen=True):
    """The process at the local end, as far as the kernel told."""

    unit: str = ""
    """systemd unit, such as `web.service`; empty when none was found."""
    uid: int = -1
    """Unix uid; -1 when it was not asked for."""
    how: How = "unknown"


NOBODY = Workload()


class Selector(msgspec.Struct, frozen=True):
    """One fact about a process that proves a workload, as in SPIRE."""

    kind: SelectorKind
    value: str

    def matches(self, workload: Workload) -> bool:
        """Whether `workload` has this fact."""
        if self.kind == "systemd:id":
            return bool(workload.unit) and workload.unit == self.value
        return workload.uid >= 0 and str(workload.uid) == self.value


class WorkloadRule(msgspec.Struct, frozen=True):
    """A line of configuration: processes with this selector speak as this service."""

    selector: Selector
    service: str


def is_unit_name(text: str) -> bool:
    """Whether systemd could call a service this."""
    return re.fullmatch(r"[A-Za-z0-9:_.\\@-]{1,247}\.service", text) is not None


def parse_selector(text: str) -> Selector:
    """The selector in `systemd:id:web.service` or `unix:uid:1001`.

    Raises:
        ValueError: unknown kind or an empty or malformed value.
    """
    for kind in ("systemd:id", "unix:uid"):
        if text.startswith(kind + ":"):
            value = text[len(kind) + 1 :]
            break
    else:
        raise ValueError(f"{text!r}: a selector is systemd:id:UNIT or unix:uid:NUMBER")
    if kind == "systemd:id" and not is_unit_name(value):
        raise ValueError(f"{text!r}: the unit must end in .service, and patterns are not known here: name each")
    if kind == "unix:uid" and not (re.fullmatch("0|[1-9][0-9]{0,9}", value) and int(value) < NO_ID):
        raise ValueError(f"{text!r}: the uid must be a number, 0 to {NO_ID - 1}, without leading zeros")
    return Selector("systemd:id" if kind == "systemd:id" else "unix:uid", value)
