"""What a support request needs, in one archive: state, rules, routes, log; never a token or a key."""

import io
import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path

import msgspec

from nodeagent import __version__, limits
from nodeagent.control.report import CertsAnswer, ConnectionsAnswer, ModesAnswer, ServicesAnswer
from nodeagent.diagnose.facts import Blind
from nodeagent.errors import ConfigError
from nodeagent.probe.bounded import look
from nodeagent.probe.host import OPERATOR_TOKEN, agent_pids
from nodeagent.probe.scope import Scope
from nodeagent.probe.scrub import scrub
from nodeagent.process.privileges import check_may_see_network
from redirect import kernel

_PROGRAM_S = 10.0
_CUT = "\n[cut here: {} more characters]\n"
_ROWS = "limit=2000"
_PROC = Path("/proc")
_SYSCTLS = (
    "net/ipv4/ip_local_port_range", "net/ipv4/ip_local_reserved_ports", "net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect",
    "net/ipv6/fwmark_reflect", "net/ipv4/tcp_tw_reuse", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/all/src_valid_mark",
    "net/core/somaxconn", "net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_count", "fs/file-nr", "fs/nr_open",
)  # fmt: skip
_OF_PROCESS = ("status", "limits", "cgroup")
_PROGRAMS = {
    "ip-rule.txt": ("ip", "rule"), "ip-rule-6.txt": ("ip", "-6", "rule"),
    "ip-route.txt": ("ip", "route", "show", "table", "all"), "ip-route-6.txt": ("ip", "-6", "route", "show", "table", "all"),
    "ip-address.txt": ("ip", "address"), "listeners.txt": ("ss", "-Hltn"), "sockets.txt": ("ss", "-s"),
    "journal.txt": ("journalctl", "-u", "nodeagent", "-u", "nodeagent-intercept", "-n", "5000", "--no-pager", "-o", "short-iso"),
}  # fmt: skip
_ANSWERS: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "connections.json": (f"/v1/connections?{_ROWS}", ConnectionsAnswer), "connections-closed.json": (f"/v1/connections?closed=1&{_ROWS}", ConnectionsAnswer),
    "services.json": ("/v1/services", ServicesAnswer), "certs.json": ("/v1/certs", CertsAnswer), "modes.json": ("/v1/modes", ModesAnswer),
}  # fmt: skip


def collect(scope: Scope, check: Callable[[], bytes]) -> dict[str, bytes | Blind]:
    """Each part by its file name, or why it is missing; without secrets, cut to BUNDLE_PART_BYTES; within CHECK_S and a bit.

    check: the report of `nodeagent check`.
    """
    probes: dict[str, Callable[[], object]] = {
        "check.json": check, "status.json": partial(_status, scope), "config.json": partial(_config, scope),
        "rules.txt": _rules, "sysctls.txt": _sysctls, "versions.txt": _versions,
        "processes.txt": partial(_processes, scope),
        **{name: partial(_answer, scope, path, kind) for name, (path, kind) in _ANSWERS.items()},
        **{name: partial(_program, argv) for name, argv in _PROGRAMS.items()},
    }  # fmt: skip
    secrets = read_secrets(scope, os.environ)
    found = look(probes, limits.CHECK_S + limits.CHECK_ANSWER_S)
    return {name: _part(part, secrets) for name, part in found.items()}


def pack(parts: Mapping[str, bytes | Blind], top: str, now: float) -> bytes:
    """The archive: a directory `top` with the parts, and a list of what is missing and why."""
    missing = "".join(f"{name}: {part.why}\n" for name, part in sorted(parts.items()) if isinstance(part, Blind))
    files = {name: part for name, part in parts.items() if isinstance(part, bytes)} | {"missing.txt": missing.encode()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, body in sorted(files.items()):
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mode, entry.mtime = len(body), 0o600, int(now)
            archive.addfile(entry, io.BytesIO(body))
    return buffer.getvalue()


def read_secrets(scope: Scope, environ: Mapping[str, str]) -> frozenset[str]:
    """What must not be in the archive: tokens in files, and in this command's environment."""
    paths = [OPERATOR_TOKEN, *([scope.config.catalog.token_file] if scope.config else [])]
    texts = [_try_read(path) for path in paths] + [environ.get("CONSUL_HTTP_TOKEN", "")]
    return frozenset(word for text in texts for word in text.split())


def _part(part: object, secrets: Iterable[str]) -> bytes | Blind:
    if isinstance(part, Blind):
        return Blind(scrub(part.why, secrets))
    text = part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)
    most = limits.BUNDLE_PART_BYTES
    if len(text) <= most:
        return scrub(text, secrets).encode()
    kept = text[:most].rpartition("\n")[0] or text[:most]  # whole lines: of half a secret nobody knows that it is one
    return (scrub(kept, secrets) + _CUT.format(len(text) - len(kept))).encode()


def _status(scope: Scope) -> bytes:
    if scope.status is None:
        raise ConfigError(scope.agent_error or "the agent does not answer")
    return _json(msgspec.to_builtins(scope.status))


def _answer(scope: Scope, path: str, kind: type[msgspec.Struct]) -> bytes:
    if scope.status is None:
        raise ConfigError("the agent was not asked: it does not tell its status")
    return _json(msgspec.to_builtins(scope.ask_agent(path, kind)))


def _config(scope: Scope) -> bytes:
    """The settings as they were understood: neither comments nor keys that nobody knows are in it."""
    return _json(msgspec.to_builtins(scope.settings)) if scope.config else scope.config_error.encode()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode()


def _rules() -> str:
    check_may_see_network()
    return kernel.show() or "nothing is installed"


def _sysctls() -> str:
    return "".join(f"{name.replace('/', '.')} = {_try_read(_PROC / 'sys' / name).strip() or '-'}\n" for name in _SYSCTLS)


def _versions() -> str:
    libraries = (f"{each.name} {each.version}" for each in metadata.distributions())
    lines = (f"nodeagent {__version__}", f"Python {platform.python_version()}", platform.platform(), _try_read("/etc/os-release"))
    return "\n".join((*lines, *sorted(set(libraries)), ""))


def _processes(scope: Scope) -> str:
    """What the kernel says of each of the agent's processes: never their environment."""
    pids = agent_pids(scope.status) or _named_pids()
    return "\n".join(f"--- {pid} {name}\n{_try_read(_PROC / str(pid) / name)}" for pid in pids for name in _OF_PROCESS)


def _named_pids() -> tuple[int, ...]:
    """The processes that are called as the agent's are: what is left of a dead one."""
    entries = (entry for entry in _PROC.iterdir() if entry.name.isdecimal())
    return tuple(sorted(int(entry.name) for entry in entries if _try_read(entry / "comm").startswith("nodeagent")))


def _program(argv: tuple[str, ...]) -> bytes:
    done = subprocess.run(argv, capture_output=True, timeout=_PROGRAM_S, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr.decode('utf-8', 'replace').strip()[:200]}")
    return done.stdout


def _try_read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
