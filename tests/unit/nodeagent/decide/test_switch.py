"""What `why` says of a fallen dead-man switch is what the rules do."""

import pytest

from nodeagent.decide.explain import Target
from nodeagent.decide.switch import explain_fallen
from tests.support.mesh import CART, LEGACY, WEB, mesh

OPEN = '[intercept]\nfail = "open"\n'
TILL = '[service.till]\nfail = "closed"\n'
REFUSE = 'unregistered = "refuse"\n'
NOBODY = WEB._replace(port=81)


@pytest.mark.parametrize(
    ("mode", "extra", "source", "address", "verdict", "said"),
    [
        ("observe", "", "shop", WEB, "refused", 'reset (fail = "closed")'),
        ("observe", OPEN, "shop", WEB, "note", 'go directly, in clear, around the agent (fail = "open")'),
        ("strict", OPEN, "shop", WEB, "refused", "reset (web is strict: never around the agent)"),
        ("observe", OPEN + '[service.web]\nfail = "closed"\n', "shop", WEB, "refused", 'reset (fail = "closed" of web)'),
        ("observe", '[service.web]\nfail = "open"\n', "shop", WEB, "note", '(fail = "open" of web)'),
        ("observe", OPEN + TILL, "till", WEB, "refused", 'reset (fail = "closed" of till)'),
        ("observe", OPEN + TILL, "", WEB, "refused", "the kernel cannot name"),
        ("observe", OPEN + TILL, "shop", WEB, "note", "directly"),
        ("observe", OPEN, "", WEB, "note", "directly"),
        ("observe", OPEN, "shop", NOBODY, "note", '(fail = "open")'),
        ("observe", OPEN + REFUSE, "shop", NOBODY, "refused", 'reset (unregistered = "refuse")'),
        ("observe", OPEN + REFUSE, "shop", LEGACY, "note", '(fail = "open")'),
    ],
)
def test_what_becomes_of_a_call_to_another_host(mode, extra, source, address, verdict, said) -> None:
    """By the fail mode of the host, of the callee and of the caller, and never to a strict service."""
    step = explain_fallen(mesh(mode=mode, extra=extra), source, Target(address, is_local=False), why="the supervisor is silent")
    assert (step.what, step.verdict) == ("switch", verdict)
    assert said in step.text
    assert step.text.startswith("the supervisor is silent")


@pytest.mark.parametrize(("extra", "verdict"), [("", "refused"), (OPEN, "note"), ('[service.cart]\nfail = "open"\n', "note"),
                                                (OPEN + '[service.cart]\nmode = "strict"\n', "refused")])  # fmt: skip
def test_a_service_of_this_host_is_known_by_its_port(extra, verdict) -> None:
    """At whatever address of this host it is called."""
    step = explain_fallen(mesh(mode="observe", extra=extra), "shop", Target(CART._replace(ip="127.0.0.1"), is_local=True), why="x")
    assert step.verdict == verdict
