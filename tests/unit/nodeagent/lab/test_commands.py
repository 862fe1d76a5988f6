"""What is typed in a lab in the place of systemd's commands."""

import re
from pathlib import Path

import pytest

import nodeagent
from nodeagent.control.report import LOGS
from nodeagent.lab.commands import place_of, words_at

MINE, USUAL = "nodeagent-lab/mine/host2", "nodeagent-lab/lab/host1"
SOURCES = Path(nodeagent.__file__).parent
CURE = re.compile(r"(?:systemctl|journalctl) [^\"`]*nodeagent[^\"`]*")


@pytest.mark.parametrize(("cgroup_root", "place"), [
    (MINE, ("mine", "host2")), ("", None), ("system.slice", None), ("nodeagent-lab", None), ("nodeagent-lab/mine", None), ("other/mine/host2", None),
])  # fmt: skip
def test_a_host_of_a_lab_is_known_by_where_its_units_are(cgroup_root: str, place: tuple[str, str] | None) -> None:
    assert place_of(cgroup_root) == place


@pytest.mark.parametrize(("text", "here"), [
    ("systemctl restart nodeagent", "nodeagent lab agent --name mine host2 restart"),
    (f"x; systemctl restart nodeagent; {LOGS}", "x; nodeagent lab agent --name mine host2 restart; see: nodeagent lab agent --name mine host2 logs"),
    ("systemctl status nodeagent; journalctl -u nodeagent -n 50", "nodeagent lab agent --name mine host2 logs"),
    ("systemctl status nodeagent-catalog on its host; see [catalog]", "nodeagent lab catalog --name mine logs; see [catalog]"),
    ("systemctl edit nodeagent: LimitNOFILE=1048576", "ulimit -Hn 1048576; nodeagent lab agent --name mine host2 restart"),
    ("systemctl stop nodeagent (in a lab: nodeagent lab agent HOST stop), or", "nodeagent lab agent --name mine host2 stop, or"),
    ("timedatectl set-ntp true", "timedatectl set-ntp true"),
])  # fmt: skip
def test_cures_name_the_labs_commands(text: str, here: str) -> None:
    """Elsewhere nothing is changed."""
    assert words_at(MINE)(text) == here
    assert words_at("")(text) == text


def test_the_usual_lab_needs_no_name() -> None:
    assert words_at(USUAL)("systemctl start nodeagent") == "nodeagent lab agent host1 start"
    assert words_at(USUAL)("systemctl status nodeagent-catalog on its host") == "nodeagent lab catalog logs"


@pytest.mark.parametrize("folder", ["diagnose", "control"])
def test_no_cure_is_left_that_a_lab_does_not_have(folder: str) -> None:
    """Of all that the check and the agent say, but what is said of systemd's own sockets."""
    found = [cure for path in sorted((SOURCES / folder).glob("*.py")) for cure in CURE.findall(path.read_text(encoding="utf-8"))]
    found = [cure for cure in found if "another's socket unit" not in cure]
    assert found
    assert [cure for cure in map(words_at(MINE), found) if "systemctl" in cure or "journalctl" in cure] == []
