"""Faults of one host: a full or read-only disk, a spoiled file, a second agent. Traffic goes on, and somebody is told."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.control.last_good import read_last_good
from nodeagent.lab import layout
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture
from tests.e2e.support import look
from tests.e2e.support.echo import Echo, answers
from tests.e2e.support.lab import holder
from tests.e2e.support.settings import edit_config, restart
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB = 8080
STATE = "/var/lib/nodeagent"


@pytest.fixture
def calls(lab: Lab, capture: Capture, canary: str) -> Iterator[Callable[[], bool]]:
    """`calls()`: whether a new call from shop on host1 to web on host2 is answered. Never readable in between."""
    wire = capture(lab)
    lab.register("host2", "web", WEB)
    look.decide(lab, "allow", "shop", "web")
    address = (lab.host("host2").ipv4, WEB)
    with ExitStack() as stack:
        stack.enter_context(Echo(stack.enter_context(Unit(lab, "host2", "web")).listen("::", WEB)))
        shop = stack.enter_context(Unit(lab, "host1", "shop"))
        yield lambda: answers(shop, address, canary.encode())
    wire.assert_never_in_clear(canary)


def put_disk(lab: Lab, host: str, options: str, then: str) -> None:
    """Mounts a disk of a few kilobytes over the state directory, as that is, and makes of it what `then` says."""
    owner = f"mode=770,uid={layout.CONTROL_UID},gid=0"
    done = lab.exec(host, "sh", "-c", f"mount -t tmpfs -o size=64k,{owner},{options} tmpfs {STATE} && {then}")
    assert done.returncode == 0, done.stderr


KINDS = {
    "No space left": ("rw", f"cat /dev/zero >{STATE}/filler; test -s {STATE}/filler", f"rm {STATE}/filler"),
    "Read-only": ("ro", "true", f"mount -o remount,rw {STATE}"),
}
"""What the kernel says of it -> how it is mounted, what makes it so, and what cures it."""


@pytest.fixture(params=KINDS)
def bad_disk(lab: Lab, request: pytest.FixtureRequest) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """(the kernel's words, break, cure) of host1's state directory."""
    options, spoil, heal = KINDS[request.param]

    def cure() -> None:
        assert lab.exec("host1", "sh", "-c", heal).returncode == 0

    yield request.param, lambda: put_disk(lab, "host1", options, spoil), cure
    assert lab.exec("host1", "umount", STATE).returncode == 0


def disk(lab: Lab) -> Path:
    """The state directory as host1 sees it, mounts included."""
    return Path(f"/proc/{holder(lab, 'host1')}/root{STATE}")


def warnings(lab: Lab) -> str:
    """What `nodeagent status` warns of on host1."""
    return " | ".join(look.status(lab, "host1")["warnings"])


def test_a_bad_disk_stops_no_traffic_and_no_change(
    lab: Lab, calls: Callable[[], bool], bad_disk: tuple[str, Callable[[], None], Callable[[], None]]
) -> None:
    """Full or read-only: changes take effect although they cannot be saved; status warns until they can."""
    words, spoil, cure = bad_disk
    spoil()
    assert calls()
    look.decide(lab, "deny", "shop", "web")
    assert not calls()
    eventually(lambda: words in warnings(lab), look.WITHIN_S, "the warning")
    look.decide(lab, "allow", "shop", "web")
    assert calls()
    assert lab.exec("host1", "nodeagent", "status").returncode == 0, "nothing that stops traffic: no problem, a warning"
    refused = lab.exec("host1", "nodeagent", "enforce", "permissive", "--yes")
    assert (refused.returncode, "is as before" in refused.stderr) == (1, True), "a mode is saved first, or not switched"
    cure()
    eventually(lambda: words not in warnings(lab), look.WITHIN_S, "saving works again, without another change")
    assert read_last_good(disk(lab) / "snapshot") is not None
    assert not list(disk(lab).glob("*.new")), "no half-written file is left"


def test_an_agent_starts_with_a_bad_disk(
    lab: Lab, calls: Callable[[], bool], bad_disk: tuple[str, Callable[[], None], Callable[[], None]]
) -> None:
    """It has the catalog; what it cannot save it says."""
    words, spoil, cure = bad_disk
    lab.stop_agent("host1")
    spoil()
    lab.start_agent("host1")
    assert calls()
    eventually(lambda: words in warnings(lab), look.WITHIN_S, "the warning")
    cure()
    eventually((disk(lab) / "snapshot").exists, look.WITHIN_S, "what it knows is saved")
    eventually(lambda: words not in warnings(lab), look.WITHIN_S, "and it says so")
    lab.stop_agent("host1")
    lab.start_agent("host1")
    assert calls()


def test_keys_that_the_disk_does_not_take_stay_in_memory(
    lab: Lab, calls: Callable[[], bool], bad_disk: tuple[str, Callable[[], None], Callable[[], None]]
) -> None:
    """One line in the log; traffic and reloads go on, and once there is room they get there."""
    words, spoil, cure = bad_disk
    file = lab.host("host1").own("etc") / "nodeagent.toml"
    text = file.read_text()
    edit_config(lab, "host1", {'units = "any"': 'units = "any"\npersist = "disk"'})
    try:
        lab.stop_agent("host1")
        spoil()
        known = len(look.log_lines(lab, "host1", "keys_not_saved"))
        lab.start_agent("host1")
        assert calls()
        (line,) = eventually(lambda: look.log_lines(lab, "host1", "keys_not_saved")[known:], look.WITHIN_S, "the complaint")
        assert words in line["error"]
        lab.reload_agent("host1")
        assert calls()
        cure()
        eventually((disk(lab) / "keys").exists, 10 * limits.KEY_FILE_S, "they are kept")
        assert not list(disk(lab).glob("*.new")), "no half-written file is left"
    finally:
        file.write_text(text)
        restart(lab, "host1")


def test_a_spoiled_snapshot_is_put_aside(lab: Lab, calls: Callable[[], bool]) -> None:
    """Garbage on disk is never decided by; the agent says so, starts from the catalog and saves anew."""
    directory = lab.host("host1").own("state")
    lab.stop_agent("host1")
    (directory / "snapshot").write_bytes(b"nodeagent snapshot 1\n" + os.urandom(5000))
    lab.start_agent("host1")
    assert calls()
    assert (directory / "snapshot.spoiled").read_bytes().startswith(b"nodeagent snapshot 1\n")
    assert "renamed to snapshot.spoiled" in warnings(lab)
    eventually((directory / "snapshot").exists, look.WITHIN_S, "a new one")
    assert read_last_good(directory / "snapshot") is not None


def test_a_second_agent_is_refused_and_the_first_does_not_notice(lab: Lab, calls: Callable[[], bool]) -> None:
    """One sentence that names the first; its processes, rules and socket are as before."""
    before = (lab.pids("host1", layout.AGENT), lab.exec("host1", "nft", "-s", "list", "ruleset").stdout)
    done = lab.exec("host1", "nodeagent", "run", "--config", "/etc/nodeagent/nodeagent.toml")
    assert done.returncode == 1
    (sentence,) = [line for line in done.stderr.splitlines() if not _is_log(line)]
    assert str(look.status(lab, "host1")["supervisor"]["pid"]) in sentence
    assert (lab.pids("host1", layout.AGENT), lab.exec("host1", "nft", "-s", "list", "ruleset").stdout) == before
    assert look.status(lab, "host1")["healthy"]
    assert calls()


def _is_log(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
