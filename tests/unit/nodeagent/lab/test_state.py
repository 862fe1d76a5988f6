"""The state file and the locks."""

import os
from pathlib import Path

import pytest

from nodeagent.lab import layout, state
from nodeagent.lab.errors import LabError
from nodeagent.lab.state import Holder, LabState, ServiceState


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for labs of this test's own."""
    monkeypatch.setattr(layout, "BASE", tmp_path / "labs")
    own = {"run": tmp_path / "run-nodeagent", "etc": tmp_path / "etc-nodeagent"}
    monkeypatch.setattr(layout, "OWN_DIRECTORIES", own)
    return tmp_path


def make(name: str, subnet: int = 77, **more: object) -> LabState:
    """A state that is saved."""
    made = LabState(name, subnet, 2, "strict", 2, **more)  # type: ignore[arg-type]
    layout.lab_directory(name).mkdir(parents=True)
    state.save_state(made)
    return made


def test_what_is_saved_is_loaded(base: Path) -> None:
    """Holders and services survive the command that started them."""
    made = make(
        "lab", ready=True, holders={"host1": Holder(12, 34)},
        services={"host1": {"web": ServiceState(("nginx",), 8080)}},
    )  # fmt: skip
    assert state.load_state("lab") == made
    assert not list(layout.lab_directory("lab").glob("*.new"))


def test_no_lab_names_those_that_are_up(base: Path) -> None:
    """A wrong --name is seen at once."""
    make("other", ready=True)
    with pytest.raises(LabError, match=r"no lab 'lab' is up; up: other; run: nodeagent lab up --name lab"):
        state.load_state("lab")


def test_a_half_made_lab_is_not_used(base: Path) -> None:
    """A `lab up` that was killed leaves a lab that can only be removed."""
    make("lab")
    with pytest.raises(LabError, match=r"half made.*lab down"):
        state.load_state("lab")


def test_a_damaged_state_file_names_the_cure(base: Path) -> None:
    """It is not needed for `lab down`."""
    make("lab")
    state.state_path("lab").write_text("{")
    with pytest.raises(LabError, match=r"cannot be read.*lab down"):
        state.load_state("lab")


def test_hosts_are_found_by_name() -> None:
    """The hub is one of them; a wrong name lists the right ones."""
    lab = LabState("lab", 77, 2, "strict", 2)
    assert lab.host("host2").ipv4 == "10.77.0.2"
    assert lab.host("hub") == lab.hub
    assert lab.member("host2") == lab.host("host2")
    for find, name in ((lab.host, "host3"), (lab.member, "host3"), (lab.member, "hub")):
        with pytest.raises(LabError, match=f"no host '{name}'; its hosts: host1, host2"):
            find(name)


def test_a_pid_that_is_another_process_now_is_no_holder() -> None:
    """Entering the namespaces of a recycled pid would run a command on the machine itself."""
    started = state.try_start_time(os.getpid())
    assert started is not None
    lab = LabState("lab", 77, 1, "strict", 2, holders={"host1": Holder(os.getpid(), started)})
    assert lab.holder(lab.host("host1")).pid == os.getpid()
    stale = LabState("lab", 77, 1, "strict", 2, holders={"host1": Holder(os.getpid(), started + 1)})
    with pytest.raises(LabError, match="holds host1 of lab 'lab' is gone"):
        stale.holder(stale.host("host1"))


def test_subnets_of_half_made_labs_are_taken(base: Path) -> None:
    """Two labs never get the same addresses, also while one is being made."""
    make("lab", 77)
    make("two", 78, ready=True)
    make("damaged", 79)
    state.state_path("damaged").write_text("{")
    assert state.taken_subnets() == {77, 78}


def test_one_command_at_a_time(base: Path) -> None:
    """The second is told who is busy; when the first is done, it may."""
    with (
        state.locked("lab", wait_s=0),
        pytest.raises(LabError, match="busy with the lab 'lab'"),
        state.locked("lab", 0),
    ):
        pytest.fail("two commands had the lock")
    with state.locked("lab", wait_s=0):
        assert (layout.BASE / "lab.lock").exists()


def test_the_last_lab_takes_everything_with_it(base: Path) -> None:
    """Mount points that were made are removed with the last lab, and not before."""
    for name in ("one", "two"):
        with state.locked(name), state.locked(""):
            layout.lab_directory(name).mkdir()
            state.make_mount_points()
    with state.locked("one"), state.locked(""):
        layout.lab_directory("one").rmdir()
        state.release("one")
    assert (base / "etc-nodeagent").is_dir()
    with state.locked("two"), state.locked(""):
        layout.lab_directory("two").rmdir()
        state.release("two")
    assert list(base.iterdir()) == []


def test_what_was_there_before_or_is_used_stays(base: Path) -> None:
    """Only empty directories that the lab itself made are removed."""
    (base / "run-nodeagent").mkdir()
    with state.locked("lab"), state.locked(""):
        state.make_mount_points()
        (base / "etc-nodeagent" / "nodeagent.toml").write_text("an operator's")
        state.release("lab")
    assert sorted(path.name for path in base.iterdir()) == ["etc-nodeagent", "run-nodeagent"]
