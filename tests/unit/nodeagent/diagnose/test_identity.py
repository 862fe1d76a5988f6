"""Judgements on certificates, each with what makes it."""

import pytest

from nodeagent.diagnose.facts import Certificate, Certificates
from nodeagent.diagnose.identity import judge_certificates
from tests.unit.nodeagent.diagnose.verdicts import only

NOW, DAY = 1_000_000.0, 86_400.0


@pytest.mark.parametrize(
    ("held", "level", "text"),
    [
        (Certificate("web", "valid", NOW, NOW + DAY), "ok", "1 certificates of d.consul, the first ends in 24.0 h"),
        (Certificate("web", "valid", NOW - DAY, NOW + 3600, "refused"), "warning", "ends in 60 min and was not renewed: refused"),
        (Certificate("web", "expired", NOW - DAY, NOW - 60), "failed", "expired 1 min ago"),
        (Certificate("web", "missing", error="the token does not speak for web"), "failed", "no certificate: the token"),
    ],
)
def test_a_certificate(held: Certificate, level: str, text: str) -> None:
    """There, valid and renewed in time."""
    found = only(judge_certificates(Certificates(NOW, "d.consul", (held,))))
    assert found[0] == level
    assert text in found[1]


def test_none_is_well_where_nothing_speaks() -> None:
    """Without roots nothing is."""
    assert only(judge_certificates(Certificates(NOW, "d.consul")))[:2] == ("ok", "0 certificates of d.consul")
    assert only(judge_certificates(Certificates(NOW)))[0] == "failed"
