"""Certificates as a table."""

from nodeagent.cli.certs import HEADERS, table_row
from nodeagent.control.report import CertificatePart


def test_a_valid_certificate_shows_when_it_ends() -> None:
    part = CertificatePart(
        service="web", state="valid", spiffe_id="spiffe://t/ns/default/dc/dc1/svc/web", serial="0a:1b",
        not_before=1_700_000_000.0, not_after=1_700_003_600.0, root="0123456789abcdef0123",
    )  # fmt: skip
    assert table_row(part, 1_700_000_000.0) == [
        "web", "valid", "2023-11-14 23:13:20", "1 h 0 min", "0123456789abcdef", "0a:1b", "spiffe://t/ns/default/dc/dc1/svc/web",
    ]  # fmt: skip


def test_a_missing_one_has_dashes() -> None:
    cells = table_row(CertificatePart(service="web", state="missing"), 0.0)
    assert cells == ["web", "missing", "-", "-", "-", "-", "-"]
    assert len(cells) == len(HEADERS)
