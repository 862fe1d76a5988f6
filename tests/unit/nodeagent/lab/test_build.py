"""Building a lab; for real in tests/e2e/test_lab.py."""

import pytest

from nodeagent.lab import build
from nodeagent.lab.errors import LabError


def test_missing_programs_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is made."""
    monkeypatch.setattr(build, "TOOLS", {"sh": "dash", "no-such-tool": "its-package", "none-either": "its-package"})
    with pytest.raises(LabError, match="missing: its-package; run script/bootstrap"):
        build.bring_up(build.Plan("unit"), lambda _: None)


def test_bad_plans_are_refused_before_anything_is_made() -> None:
    """Name and number of hosts."""
    with pytest.raises(LabError, match="cannot name a lab"):
        build.bring_up(build.Plan("../x"), lambda _: None)
    with pytest.raises(LabError, match="1 to 100 hosts"):
        build.bring_up(build.Plan("unit", hosts=0), lambda _: None)
