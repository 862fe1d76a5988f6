"""Versions side by side, in a directory of the test's."""

from pathlib import Path

import pytest

from nodeagent.cli.versions import NotInstalledError, Versions, age_key, choose, forget, read_versions, switch
from nodeagent.errors import ConfigError


def install(root: Path, *versions: str) -> None:
    """Programs that could be executed."""
    for version in versions:
        program = root / "versions" / version / "bin" / "nodeagent"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)


def test_versions_are_ordered_by_age_and_their_links_are_read(tmp_path: Path) -> None:
    """What holds no program is none."""
    install(tmp_path, "0.10.0", "0.9.0", "0.10.0rc1", "0.10.0.1")
    (tmp_path / "versions" / "half").mkdir()
    switch(tmp_path, "current", "0.9.0")
    switch(tmp_path, "previous", "0.10.0rc1")
    installed = ("0.9.0", "0.10.0rc1", "0.10.0", "0.10.0.1")
    assert read_versions(tmp_path) == Versions(tmp_path, installed, "0.9.0", "0.10.0rc1")


def test_a_link_is_replaced_in_one_step_and_leads_there(tmp_path: Path) -> None:
    """Whatever a switch that was killed has left; a link that leads elsewhere is no version."""
    install(tmp_path, "1.0", "2.0")
    (tmp_path / ".current.new").symlink_to("nowhere")
    (tmp_path / "current").symlink_to("/usr")
    assert read_versions(tmp_path).current == ""
    for version in ("1.0", "2.0"):
        switch(tmp_path, "current", version)
        assert (tmp_path / "current").resolve() == tmp_path / "versions" / version
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["current", "versions"]


def test_a_link_that_is_forgotten_is_none(tmp_path: Path) -> None:
    """Twice, too; a directory of that name is nobody's link."""
    switch(tmp_path, "previous", "1.0")
    for _ in range(2):
        forget(tmp_path, "previous")
        assert not (tmp_path / "previous").is_symlink()
    (tmp_path / "previous").mkdir()
    with pytest.raises(ConfigError, match="previous cannot be removed: Is a directory"):
        forget(tmp_path, "previous")


def test_the_newest_is_chosen_unless_another_is_asked_for() -> None:
    """Or the one before."""
    versions = Versions(Path("/opt/x"), ("1.0", "2.0", "3.0"), "2.0", "1.0")
    assert [choose(versions, "", back=False), choose(versions, "2.0", back=False), choose(versions, "", back=True)] == [
        "3.0", "2.0", "1.0"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("versions", "wanted", "back", "message"),
    [
        (("1.0",), "4.0", False, "version 4.0 is not installed in /opt/x/versions; there: 1.0"),
        ((), "", False, "none is in"),
        (("1.0",), "", True, "not known which version ran before"),
    ],
)
def test_what_is_not_there_is_not_switched_to(versions: tuple[str, ...], wanted: str, message: str, *, back: bool) -> None:
    """With what there is."""
    with pytest.raises(NotInstalledError, match=message):
        choose(Versions(Path("/opt/x"), versions, "", ""), wanted, back=back)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    """As in a checkout."""
    with pytest.raises(ConfigError, match="installed side by side"):
        read_versions(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be switched to 1\.0"):
        switch(tmp_path / "none", "current", "1.0")


def test_a_candidate_is_older_than_its_release() -> None:
    """And ten is more than nine."""
    assert sorted(["1.0.10", "1.0.9", "1.0", "1.0rc2"], key=age_key) == ["1.0rc2", "1.0", "1.0.9", "1.0.10"]
