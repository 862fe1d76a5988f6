"""Privileges: which capability whom for what, and giving the rest up for good.

Nothing here is undone: a process that gave something up never gets it back, because PR_SET_NO_NEW_PRIVS is set first.
"""

import ctypes
import os
import pwd
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from nodeagent.errors import ConfigError

_CAP_KILL, _CAP_SETGID, _CAP_SETUID, _CAP_SETPCAP, _CAP_NET_ADMIN, _CAP_NET_RAW = 5, 6, 7, 8, 12, 13

SUPERVISOR: Mapping[int, str] = {
    _CAP_NET_ADMIN: "NET_ADMIN: nftables, policy routing, net sysctls; conntrack look-ups",
    _CAP_NET_RAW: "NET_RAW: IP_TRANSPARENT and SO_MARK of listeners and prepared sockets",
    _CAP_SETUID: "SETUID: control is started under its own uid",
    _CAP_SETGID: "SETGID: and without the groups of root",
    _CAP_KILL: "KILL: signals to processes of other uids",
    _CAP_SETPCAP: "SETPCAP: children empty their bounding sets; grants nothing by itself",
}
SPAWNER: Mapping[int, str] = {
    _CAP_SETUID: "SETUID: workers take their own uid",
    _CAP_SETGID: "SETGID: and lose the groups of root",
    _CAP_SETPCAP: "SETPCAP: workers empty their bounding sets",
}
SENTRY: Mapping[int, str] = {_CAP_NET_ADMIN: "NET_ADMIN: sockets that nobody accepts are ended (SOCK_DESTROY)"}

_PR_SET_DUMPABLE, _PR_SET_NAME = 4, 15
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_THREE_WORDS_TWICE = ctypes.c_uint32 * 6  # effective, permitted, inheritable; low then high half

_libc = ctypes.CDLL(None, use_errno=True)


class User(NamedTuple):
    """Whom a process runs as."""

    uid: int
    gid: int


def resolve_user(setting: str | int, key: str) -> User:
    """The user that configuration calls `setting`; a number needs no account and is its own group then.

    Raises:
        ConfigError: no such account, or root.
    """
    name = str(setting)
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        user = User(entry.pw_uid, entry.pw_gid)
    except KeyError:
        if not name.isdecimal():
            raise ConfigError(
                f"{key}: there is no user {name!r}; systemd-sysusers makes it, or give a number that nobody else uses"
            ) from None
        user = User(int(name), int(name))
    if user.uid == 0 or user.gid == 0:
        raise ConfigError(f"{key}: {name!r} is root; give a user of its own")
    return user


def capabilities_to_drop(keep: Mapping[int, str], last: int) -> tuple[int, ...]:
    """Every capability up to `last` that is not in `keep`."""
    return tuple(number for number in range(last + 1) if number not in keep)


def capability_words(keep: Mapping[int, str]) -> tuple[int, ...]:
    """The six words of capset(2): effective and permitted exactly `keep`, inheritable nothing."""
    mask = sum(1 << number for number in keep)
    low, high = mask & 0xFFFF_FFFF, mask >> 32
    return (low, low, 0, high, high, 0)


def missing_capabilities(keep: Mapping[int, str]) -> tuple[str, ...]:
    """What this process would need of `keep` and does not have, in words."""
    effective = int(_status_field("CapEff"), 16)
    return tuple(reason for number, reason in keep.items() if not effective >> number & 1)


def check_may_see_network() -> None:
    """Raises PermissionError where the kernel shows its packet filter to nobody like this process.

    libnftables, asked all the same, says so on standard error, again and again.
    """
    if missing_capabilities({_CAP_NET_ADMIN: "NET_ADMIN"}):
        raise PermissionError("permission denied: it takes root, with CAP_NET_ADMIN")


def keep_only(keep: Mapping[int, str]) -> None:
    """Gives up every capability that is not in `keep`, also for every program started from here.

    Raises:
        PermissionError: something could not be given up.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for number in capabilities_to_drop(keep, _last_capability()):
        if _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            _prctl(_PR_CAPBSET_DROP, number)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _capset(keep)


def become(user: User) -> None:
    """Turns this root process into `user` without group, capability or way back.

    Raises:
        PermissionError: anything remained; the process must end.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for number in capabilities_to_drop({}, _last_capability()):
        if _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            _prctl(_PR_CAPBSET_DROP, number)
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _capset({})
    left = {name: _status_field(name) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    if any(int(value, 16) for value in left.values()) or os.getresuid() != (user.uid,) * 3 or os.getgroups():
        raise PermissionError(f"privileges remain after becoming uid {user.uid}: {left}")


def limit_resources() -> None:
    """No core file, which would hold keys; as many descriptors as the hard limit allows."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def forbid_inspection() -> None:
    """No process of the same uid may trace this one or read its memory: it holds keys."""
    _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Workers whose spawner died become this process's children, so that their end is seen and reaped."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def name_process(name: str) -> None:
    """What `ps` and `top` show; the kernel keeps 15 characters."""
    _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def _last_capability() -> int:
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))


def _status_field(name: str) -> str:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(name + ":"):
            return line.partition(":")[2].strip()
    return "0"


def _capset(keep: Mapping[int, str]) -> None:
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(head, _THREE_WORDS_TWICE(*capability_words(keep))):
        raise PermissionError(ctypes.get_errno(), "capset: " + os.strerror(ctypes.get_errno()))


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        code = ctypes.get_errno()
        raise PermissionError(code, f"prctl({option}, {value}): {os.strerror(code)}")
