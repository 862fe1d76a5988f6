"""This host's certificates, as its agent holds them."""

from nodeagent.control.report import CertsAnswer
from nodeagent.diagnose.facts import Certificate, Certificates
from nodeagent.probe.scope import Scope


def certificates(scope: Scope) -> Certificates | None:
    """Each with its times. Without an agent there are none."""
    if scope.status is None:
        return None
    answer: CertsAnswer = scope.ask_agent("/v1/certs", CertsAnswer)
    held = tuple(Certificate(c.service, c.state, c.not_before, c.not_after, c.error or c.lost) for c in answer.certificates)
    return Certificates(scope.now(), answer.trust_domain, held)
