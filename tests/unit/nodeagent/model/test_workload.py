"""Selectors: facts about a process that prove a workload."""

import pytest

from nodeagent.model.workload import NOBODY, Selector, Workload, parse_selector


@pytest.mark.parametrize(
    ("text", "selector"),
    [("systemd:id:web.service", Selector("systemd:id", "web.service")), ("unix:uid:0", Selector("unix:uid", "0"))],
)
def test_a_selector_is_parsed(text: str, selector: Selector) -> None:
    """As in SPIRE."""
    assert selector == parse_selector(text)


@pytest.mark.parametrize("text", ["", "web", "systemd:id:", "systemd:id:web", "unix:uid:", "unix:uid:root", "unix:uid:-1", "unix:gid:5", "unix:uid:\u0661",
    "systemd:id:.service", "systemd:id:web-*.service", "unix:uid:4294967295", "unix:uid:007"])
def test_a_selector_of_another_form_is_refused(text: str) -> None:
    """With the text, for the message of the configuration."""
    with pytest.raises(ValueError, match=r"selector is|must end|must be a number"):
        parse_selector(text)


@pytest.mark.parametrize(
    ("text", "workload", "matches"),
    [
        ("systemd:id:web.service", Workload("web.service"), True),
        ("systemd:id:web.service", Workload("web.service.d"), False),
        ("unix:uid:33", Workload(uid=33), True),
        ("unix:uid:33", Workload(uid=333), False),
        ("unix:uid:0", Workload("web.service"), False),
        ("unix:uid:0", NOBODY, False),
    ],
)
def test_a_selector_matches_what_the_kernel_told(text: str, workload: Workload, matches: bool) -> None:  # noqa: FBT001 - a table's column
    """Nothing that was not asked for, or not found, matches."""
    assert matches == parse_selector(text).matches(workload)
