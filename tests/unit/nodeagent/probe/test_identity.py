"""Certificates, as the agent tells them."""

from nodeagent.control.report import CertificatePart, CertsAnswer
from nodeagent.diagnose.facts import Certificate, Certificates
from nodeagent.probe.identity import certificates
from tests.unit.nodeagent.probe.scene import scope
from tests.unit.nodeagent.probe.test_host import STATUS


def test_certificates_are_the_agents() -> None:
    """With the moment at which they were looked at; without an agent there are none."""
    part = CertificatePart(service="web", state="missing", error="", lost="the last one was revoked")
    answer = CertsAnswer(trust_domain="d.consul", roots=[], active_root="", certificates=[part])
    found = certificates(scope(status=STATUS, ask_agent=lambda _path, _kind: answer))
    assert found == Certificates(1_000_000.0, "d.consul", (Certificate("web", "missing", error="the last one was revoked"),))
    assert certificates(scope()) is None
