"""`nodeagent ca`: what it shows, and which step it means."""

import pytest

from nodeagent import limits
from nodeagent.cli.ca import DOES, HEADERS, STEPS, UNTOLD, remarks, step_of, table_row, wait_told
from nodeagent.embedded.rotation import Phase, Step
from nodeagent.errors import CatalogError

STATE = {
    "phase": "activated", "next": "retire", "back": "deactivate", "leaf_ttl_s": 86_400.0,
    "revoked": [{"accessor": "a-1", "node": "host3", "until": 1.0}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("back", "step", "chosen"),
    [(False, None, "retire"), (True, None, "deactivate"), (False, "retire", "retire"), (True, "deactivate", "deactivate")],
)
def test_the_step_is_the_next_or_the_way_back(back: object, step: str | None, chosen: str) -> None:
    assert step_of(STATE, back=bool(back), step=step) == chosen


def test_another_step_than_the_script_expects_is_an_error() -> None:
    with pytest.raises(CatalogError, match="the step is retire now, not add"):
        step_of(STATE, back=False, step="add")


def test_where_nothing_was_done_there_is_no_way_back() -> None:
    with pytest.raises(CatalogError, match="nothing to take back"):
        step_of(STATE | {"back": ""}, back=True, step=None)


def test_every_step_of_the_server_is_explained() -> None:
    assert set(STEPS) == set(DOES) == set(Step)


def test_a_root_is_a_row() -> None:
    root = {
        "id": "0123456789abcdef0123", "state": "believed", "not_after": 1_700_003_600.0,
        "held_by": [{"node": "host1", "services": ["web", "shop"]}, {"node": "host2", "services": ["db"]}],
    }  # fmt: skip
    cells = table_row(root, 1_700_000_000.0)
    assert cells == ["0123456789abcdef", "believed", "2023-11-14 23:13:20", "1 h 0 min", "host1 (2), host2 (1)"]
    assert len(cells) == len(HEADERS)
    assert table_row(root | {"held_by": []}, 1_800_000_000.0)[3:] == ["-", "-"]


def test_the_way_on_and_who_was_revoked_are_said() -> None:
    assert remarks(STATE) == [
        "rotation: activated; next: retire, back: deactivate; certificates live 1 d",
        "revoked: host3 (token a-1)",
    ]


def test_after_a_step_the_hosts_are_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CA_LOOK_S", 0.0)
    states = iter([{"unaware": ["host1"]}, {"unaware": []}])
    assert wait_told(lambda: next(states), {"unaware": ["host1", "host2"]}) == {"unaware": []}
    monkeypatch.setattr(limits, "CA_TOLD_S", 0.0)
    assert wait_told(lambda: {"unaware": []}, {"unaware": ["dead"]}) == {"unaware": ["dead"]}


def test_what_it_means_that_a_host_was_not_told_is_known_for_each_phase() -> None:
    assert set(UNTOLD) == set(Phase)
