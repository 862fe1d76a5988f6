"""A trust domain that is another one than before."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from certs.local_ca import LocalCa
from nodeagent.control.domain_hold import DomainHold

A, B, C = "a.consul", "b.consul", "c.consul"


def roots() -> bytes:
    ca = LocalCa.create(A, datetime(2020, 1, 1, tzinfo=UTC))
    return json.dumps({"ActiveRootID": "r", "TrustDomain": A, "Roots": [{"ID": "r", "RootCert": ca.cert_pem}]}).encode()


def hold_at(directory: Path) -> DomainHold:
    return DomainHold(directory / "held", 300.0)


def test_another_trust_domain_is_taken_when_it_has_lasted(tmp_path: Path) -> None:
    """Names both and says how long; a mistake that is put right meanwhile leaves no trace."""
    hold = hold_at(tmp_path)
    assert hold.why_held(A, A, 1000.0) == ""
    why = hold.why_held(A, B, 1000.0)
    assert "trust domain is b.consul now, and was a.consul" in why
    assert "300 s more" in why
    assert hold.why_held(A, A, 1200.0) == ""
    assert "300 s more" in hold.why_held(A, B, 1250.0)
    assert "300 s more" in hold.why_held(A, C, 1400.0)
    assert "1 s more" in hold.why_held(A, C, 1699.0)
    assert hold.why_held(A, C, 1700.0) == ""


def test_where_none_is_known_whatever_is_offered_is_taken(tmp_path: Path) -> None:
    assert hold_at(tmp_path).why_held("", B, 1000.0) == ""


@pytest.mark.parametrize(
    ("now", "left_s"),
    [(5100.0, 200), (5299.0, 1), (4000.0, 300)],
    ids=["while it is held", "at its end", "the clock went back"],
)
def test_the_time_goes_on_over_a_start(tmp_path: Path, now: float, left_s: int) -> None:
    """The clock that nobody can set begins anew with the machine."""
    before, known = hold_at(tmp_path), roots()
    before.why_held(A, B, 70000.0)
    before.save(known, 5000.0, 70000.0)
    after = hold_at(tmp_path)
    assert after.restore(now, 20.0) == known
    assert f"{left_s} s more" in after.why_held(A, B, 20.0)
    assert "300 s more" in after.why_held(A, C, 20.0)


def test_when_the_time_is_over_at_the_start_nothing_is_held(tmp_path: Path) -> None:
    before = hold_at(tmp_path)
    before.why_held(A, B, 70000.0)
    before.save(roots(), 5000.0, 70010.0)  # that it was offered ten seconds ago
    after = hold_at(tmp_path)
    assert after.restore(5290.0, 20.0) == b""
    assert after.why_held(A, B, 20.0) == ""
    after.save(b"", 5290.0, 20.0)
    assert list(tmp_path.iterdir()) == []


def test_what_was_put_right_leaves_nothing_on_disk(tmp_path: Path) -> None:
    hold = hold_at(tmp_path)
    for offered in (B, A):
        hold.why_held(A, offered, 1000.0)
        hold.save(roots(), 5000.0, 1000.0)
        assert [path.name for path in tmp_path.iterdir()] == (["held"] if offered == B else [])
    assert hold_at(tmp_path).restore(5000.0, 1000.0) == b""


def test_a_file_that_is_not_ours_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "held").write_bytes(b"garbage")
    with capture_logs() as log:
        assert hold_at(tmp_path).restore(5000.0, 1000.0) == b""
    assert [line["event"] for line in log] == ["held_domain_ignored"]


def test_a_disk_that_takes_nothing_costs_no_more_than_the_time_already_waited(tmp_path: Path) -> None:
    hold = DomainHold(tmp_path / "missing" / "held", 300.0)
    hold.why_held(A, B, 1000.0)
    with capture_logs() as log:
        hold.save(roots(), 5000.0, 1000.0)
    assert [line["event"] for line in log] == ["held_domain_not_saved"]
    assert "290 s more" in hold.why_held(A, B, 1010.0)
