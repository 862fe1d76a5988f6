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


def test_from_plan_to_removal_by_iptables() -> None:
    """The same commands; the plan says what it cannot promise."""
    with two_hosts("iptables") as (host, _):
        before = state_of(host)
        with_config = "--config /run/test.toml"
        commands = [*(f"nodeagent intercept {name} {with_config}" for name in ("plan", "apply", "plan", "verify")), "nodeagent intercept show"]
        results = Console(host, CONFIG + 'backend = "iptables"\n').run(
            *commands,
            f"iptables-legacy -t nat -F nodeagent_out && nodeagent intercept verify {with_config}",
            "nodeagent intercept remove --now",
            "nodeagent intercept show",
        )
        assert [status for status, _ in results] == [0, 0, 0, 0, 0, 1, 0, 0]
        plan, applied, no_plan, verified, shown, drift, removed, empty = (text for _, text in results)
        assert plan.startswith("# Not atomic")
        assert "+-A nodeagent_out" in plan
        assert "7000" in plan
        assert "iptables of IPv6: installed" in applied
        assert no_plan == "Nothing to change."
        assert verified == "The kernel does what the configuration says."
        assert "-A nodeagent_pre -p tcp -m set --match-set nodeagent_local_ports dst -j TPROXY" in shown
        assert "chain nodeagent_out: missing" in drift
        assert "iptables of IPv4: rules removed" in removed
        assert empty == "Nothing is installed."
        assert state_of(host) == before


def test_the_same_as_json(host: Host) -> None:
    """For scripts: one object per command."""
    options = "-o json --config /run/test.toml"
    commands = [*(f"nodeagent intercept {name} {options}" for name in ("plan", "apply", "verify")), "nodeagent intercept show -o json", f"nodeagent intercept remove {options}"]
    plan, applied, verified, shown, removed = (json.loads(text) for _, text in Console(host, CONFIG).run(*commands))
    assert "chain pre" in plan["planned"]
    assert "+table inet nodeagent {" in plan["diff"]
    assert "table inet nodeagent: installed" in applied["changes"]
    assert verified == {"apiVersion": "nodeagent/v1", "ok": True, "drift": []}
    assert shown["installed"] is True
    assert removed["left"] == []


@pytest.mark.parametrize("options", ["", "--now"])
def test_rules_are_not_removed_beside_an_agent(host: Host, options: str) -> None:
    """It would put them back, and what must not go in clear would until then: nothing is touched. Force is for emergencies."""
    before = state_of(host)
    host.listen("tunnel", host.ip6, 15008)
    results = Console(host, CONFIG).run(
        "nodeagent intercept apply --config /run/test.toml",
        "nft -s list ruleset",
        f"nodeagent intercept remove {options} --config /run/test.toml",
        "nft -s list ruleset",
        "nodeagent intercept verify --config /run/test.toml",
        f"nodeagent intercept remove {options} --force -o json 2>/run/warning; cat /run/warning >&2",
        "nodeagent intercept remove --now --force",
        "nodeagent intercept remove",
    )
    assert [status for status, _ in results] == [0, 0, 1, 0, 0, 0, 0, 0]
    _, installed, refused, still, verified, forced, _, nothing = (text for _, text in results)
    assert refused.splitlines() == [refused]
    assert "an agent listens on port 15008" in refused
    assert "systemctl stop nodeagent" in refused
    assert "nodeagent lab agent HOST stop" in refused
    assert still == installed
    assert verified == "The kernel does what the configuration says."
    answer, _, warning = forced.rpartition("\n")
    assert warning == "Warning: an agent listens on port 15008 and puts the rules back within 5 s."
    assert "table inet nodeagent: removed" in json.loads(answer)["changes"]
    assert nothing == "Nothing was installed."
    assert state_of(host) == before


def test_a_host_that_boots_captures_what_it_did_before(host: Host) -> None:
    """From the saved file, checked; on rules that stand already it changes nothing, and garbage is only warned of."""
    saved = '{"type":"capture","addresses":["10.78.0.2","127.0.0.1"],"ports":[8080,22]}'
    apply = "nodeagent intercept apply --config /run/test.toml -o json 2>/run/errors"
    elements = "for s in mesh4 mesh6 local_ports; do nft list set inet nodeagent $s; done | grep -o 'elements = .*'"
    results = Console(host, CONFIG + '[admin]\nstate_dir = "/run"\n').run(
        f"printf %s {shlex.quote(saved)} > /run/capture.json",
        apply,
        elements,
        "nft flush set inet nodeagent mesh4; " + apply,
        elements,
        "echo garbage > /run/capture.json; nodeagent intercept remove --now; " + apply,
        "cat /run/errors",
        "nodeagent intercept remove --now",
    )
    _, (_, applied), (_, filled), (_, again), (_, emptied), _, (_, warned), _ = results
    assert "captured as before: 1 addresses, 1 ports of this host" in json.loads(applied)["changes"]
    assert (filled.split("\n"), emptied) == (["elements = { 10.78.0.2 }", "elements = { 8080 }"], "elements = { 8080 }")
    assert json.loads(again)["changes"] == []
    assert "saved_capture_ignored" in warned


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
    assert (status, other) == (1, 4)
    assert text.splitlines() == [text]
    assert "host.control_user" in text
    assert "/run/none.toml" in message
