"""`nodeagent intercept` as an operator uses it, on a host of its own."""

import json
import shlex
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.netns import Host, state_of, two_hosts

CONFIG = """
[host]
name = "host1"
addresses = ["10.78.0.1"]
control_user = 64901
worker_user = 64902
[catalog]
address = "https://127.0.0.1:8501"
[intercept]
exclude_ports = [7000]
"""


@pytest.fixture
def host() -> Iterator[Host]:
    """A host on which nothing is installed."""
    with two_hosts() as (host, _):
        yield host


class Console:
    """Runs commands one after the other in one mount namespace with an own /run, as the record is kept there."""

    def __init__(self, host: Host, config: str) -> None:
        self._host, self._config = host, config

    def run(self, *commands: str) -> list[tuple[int, str]]:
        """(exit status, output) of each; `nft …` and the like may stand between ours."""
        script = [
            "mount -t tmpfs tmpfs /run",
            f"printf %s {shlex.quote(self._config)} > /run/test.toml",
            f'nodeagent() {{ {shlex.quote(sys.executable)} -m nodeagent "$@"; }}',
            *(f"{{ {command}; }} 2>&1; printf '\\001%d\\002' $?" for command in commands),
        ]
        output = self._host.shell("unshare", "-m", "sh", "-c", "\n".join(script))
        parts = [part.rpartition("\001") for part in output.split("\002")[:-1]]
        return [(int(status), text.strip()) for text, _, status in parts]


def test_from_plan_to_removal(host: Host) -> None:
    """Each command does what its name says, a second time too, and in the end all is as before."""
    before = state_of(host)
    with_config = "--config /run/test.toml"
    results = Console(host, CONFIG).run(
        f"nodeagent intercept verify {with_config}",
        f"nodeagent intercept plan {with_config}",
        f"nodeagent intercept apply {with_config}",
        f"nodeagent intercept apply {with_config}",
        f"nodeagent intercept plan {with_config}",
        f"nodeagent intercept verify {with_config}",
        "nodeagent intercept show",
        f"nft flush chain inet nodeagent out && nodeagent intercept verify {with_config}",
        "nodeagent intercept remove",
        f"nodeagent intercept remove --now {with_config}",
        "nodeagent intercept show",
    )
    assert [status for status, _ in results] == [1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    unmeshed, plan, applied, again, no_plan, verified, shown, drift, removed, nothing, empty = (
        text for _, text in results
    )
    assert "table inet nodeagent is missing" in unmeshed
    assert "+\tchain out {" in plan
    assert "7000" in plan
    assert "table inet nodeagent: installed" in applied
    assert again == no_plan == "Nothing to change."
    assert verified == "The kernel does what the configuration says."
    assert "chain pre {" in shown
    assert "chain out: missing" in drift
    assert "table inet nodeagent: removed" in removed
    assert (nothing, empty) == ("Nothing was installed.", "Nothing is installed.")
    assert state_of(host) == before


def test_the_same_as_json(host: Host) -> None:
    """For scripts: one object per command."""
    options = "-o json --config /run/test.toml"
    commands = [f"nodeagent intercept {name} {options}" for name in ("plan", "apply", "verify", "show", "remove")]
    plan, applied, verified, shown, removed = (json.loads(text) for _, text in Console(host, CONFIG).run(*commands))
    assert "chain pre" in plan["planned"]
    assert "+table inet nodeagent {" in plan["diff"]
    assert "table inet nodeagent: installed" in applied["changes"]
    assert verified == {"apiVersion": "nodeagent/v1", "ok": True, "drift": []}
    assert shown["installed"] is True
    assert removed["left"] == []


def test_interception_that_is_switched_off_installs_nothing(host: Host) -> None:
    """And what is installed nevertheless is drift."""
    before = state_of(host)
    off = CONFIG.replace("exclude_ports", "enabled = false\nexclude_ports")
    with_config = "--config /run/test.toml"
    results = Console(host, off).run(
        f"nodeagent intercept plan {with_config}",
        f"nodeagent intercept apply {with_config}",
        f"nodeagent intercept verify {with_config}",
        f"nft add table inet nodeagent && nodeagent intercept verify {with_config}",
        f"nodeagent intercept remove {with_config}",
    )
    assert [status for status, _ in results] == [0, 0, 0, 1, 0]
    assert "intercept.enabled is false" in results[1][1]
    assert "nodeagent intercept remove" in results[3][1]
    assert state_of(host) == before


def test_a_refusal_is_one_line(host: Host) -> None:
    """No traceback: what, and the cure."""
    (status, text), (other, message) = Console(host, CONFIG.replace("64901", '"nobody-of-that-name"')).run(
        "nodeagent intercept apply --config /run/test.toml",
        "nodeagent intercept apply --config /run/none.toml",
    )
    assert (status, other) == (1, 1)
    assert text.splitlines() == [text]
    assert "host.control_user" in text
    assert "/run/none.toml" in message
