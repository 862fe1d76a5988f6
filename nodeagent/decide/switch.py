"""The fallen dead-man switch in the words of `nodeagent why`: what the kernel makes of a call while no agent beats."""

from nodeagent.decide.bypass import exceptions_of
from nodeagent.decide.explain import Target
from nodeagent.decide.mode import mode_of
from nodeagent.decide.route import ToService, find_destination
from nodeagent.model.address import OriginalDst
from nodeagent.model.explanation import Step
from nodeagent.model.snapshot import Snapshot


def explain_fallen(snapshot: Snapshot, source: str, target: Target, *, why: str) -> Step:
    """What becomes of such a call of this host, that would be captured. The order of the cases is that of the rules.

    why: a clause that says why nobody beats.
    """
    # 1) who calls
    if stays := _why_caller_stays(snapshot, source):
        return _reset(why, stays)
    # 2) what is called
    told = exceptions_of(snapshot)
    is_port = target.is_local and target.address.port in told.ports
    is_endpoint = target.address in told.endpoints and not (target.is_local and told.fail == "closed")
    is_open = (told.fail == "open") != (is_port or is_endpoint)
    if is_open:
        return Step("switch", "note", f"{why}: such new calls go directly, in clear, around the agent ({_why_open(snapshot, target)}); {_OPEN}")
    return _reset(why, _why_closed(snapshot, target))


_OPEN = "what is open flows on"


def _reset(why: str, because: str) -> Step:
    return Step("switch", "refused", f"{why}: such new calls are reset ({because}); {_OPEN}")


def _why_caller_stays(snapshot: Snapshot, source: str) -> str:
    """Why the caller may not go around a dead agent, whatever it calls; empty: it may."""
    mesh = snapshot.mesh
    if not mesh.fail_closed or not (mesh.fail == "open" or mesh.fail_open):
        return ""
    if source in mesh.fail_closed:
        return f'fail = "closed" of {source}'
    return "" if source else f'fail = "closed" of {mesh.fail_closed[0]}, and so of whoever the kernel cannot name'


def _called(snapshot: Snapshot, target: Target) -> str:
    """The service that is called; empty: none is registered there."""
    found = find_destination(snapshot, OriginalDst(target.address), dst_is_local=target.is_local)
    return found.service.name if isinstance(found, ToService) else ""


def _why_open(snapshot: Snapshot, target: Target) -> str:
    called = _called(snapshot, target)
    return 'fail = "open"' + (f" of {called}" if called in snapshot.mesh.fail_open else "")


def _why_closed(snapshot: Snapshot, target: Target) -> str:
    mesh, called = snapshot.mesh, _called(snapshot, target)
    if called in mesh.fail_closed:
        return f'fail = "closed" of {called}'
    if not called:
        return 'unregistered = "refuse"' if mesh.fail == "open" and mesh.unregistered == "refuse" else f'fail = "{mesh.fail}"'
    if called in mesh.fail_open or mesh.fail == "open":
        return f"{called} is strict: never around the agent" if mode_of(snapshot, called) == "strict" else "another service has the same port"
    return 'fail = "closed"'
