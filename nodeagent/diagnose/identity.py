"""Judgements on this host's certificates."""

from collections.abc import Iterator

from nodeagent.diagnose.facts import Certificate, Certificates
from nodeagent.diagnose.finding import Verdict, fail, warn, well

_LATE = 0.25  # of its life is left: renewal is due at half


def judge_certificates(certificates: Certificates) -> Iterator[Verdict]:
    """Each there, valid, renewed in time."""
    if not certificates.trust_domain:
        yield fail("the mesh's roots are not known: no tunnel opens", "see the group catalog: the CA is there")
        return
    bad = [verdict for held in certificates.held if (verdict := _judge(held, certificates.now))]
    yield from bad
    if not bad:
        soonest = min((held.not_after for held in certificates.held), default=0.0)
        left = f", the first ends in {(soonest - certificates.now) / 3600:.1f} h" if soonest else ""
        yield well(f"{len(certificates.held)} certificates of {certificates.trust_domain}{left}")


def _judge(held: Certificate, now: float) -> Verdict | None:
    why = f": {held.error}" if held.error else ""
    if held.state == "missing":
        return fail(f"{held.service} has no certificate{why}", "nodeagent certs; may the token speak for it?")
    left = held.not_after - now
    if left <= 0:
        return fail(f"the certificate of {held.service} expired {-left / 60:.0f} min ago{why}", "see the groups catalog and time")
    if left < _LATE * (held.not_after - held.not_before):
        return warn(f"the certificate of {held.service} ends in {left / 60:.0f} min and was not renewed{why}", "see the groups catalog and time")
    return None
