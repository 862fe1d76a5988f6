"""What may bypass a dead agent, and how it is told as exceptions."""

import pytest

from nodeagent.decide.bypass import Exceptions, exceptions_of, may_bypass
from tests.support.mesh import CART, LEGACY, SHOP, WEB, WEB6, mesh

OPEN = '[intercept]\nfail = "open"\n'
LEGACY6 = LEGACY._replace(ip="fd77::3")
CART6, SHOP6 = CART._replace(ip="fd77::1"), SHOP._replace(ip="fd77::1")
ALL = tuple(sorted((SHOP, SHOP6, CART, CART6, WEB, WEB6, LEGACY, LEGACY6)))


@pytest.mark.parametrize(
    ("mode", "extra", "bypasses"),
    [
        ("permissive", "", False),
        ("permissive", OPEN, True),
        ("strict", OPEN, False),
        ("strict", OPEN + '[service.web]\nmode = "observe"\n', True),
        ("observe", OPEN + '[service.web]\nmode = "strict"\n', False),
        ("observe", OPEN + '[service.web]\nfail = "closed"\n', False),
        ("observe", '[service.web]\nfail = "open"\n', True),
        ("strict", '[service.web]\nfail = "open"\n', False),
    ],
)
def test_never_a_strict_one_and_its_own_word_before_the_host_s(mode: str, extra: str, bypasses: bool) -> None:  # noqa: FBT001
    """Of calls to web."""
    assert may_bypass(mesh(mode=mode, extra=extra), "web") is bypasses


@pytest.mark.parametrize(
    ("mode", "extra", "exceptions"),
    [
        ("strict", "", Exceptions("closed")),
        ("observe", OPEN, Exceptions("open")),
        ("strict", OPEN, Exceptions("open", ALL, (7000, 9000))),
        ("observe", OPEN + '[service.web]\nfail = "closed"\n', Exceptions("open", (WEB, WEB6))),
        ("observe", '[service.web]\nfail = "open"\n', Exceptions("closed", (WEB, WEB6))),
        ("observe", '[service.cart]\nfail = "open"\n', Exceptions("closed", (CART, CART6), (7000,))),
        ("strict", '[service.web]\nfail = "open"\n', Exceptions("closed")),
        # What nobody registered is refused by this host, also without its agent; what may pass is named.
        ("observe", OPEN + 'unregistered = "refuse"\n', Exceptions("closed", ALL, (7000, 9000))),
    ],
)
def test_what_is_registered_and_differs_is_named(mode: str, extra: str, exceptions: Exceptions) -> None:
    """By address and port; on this host by port, as it may be called at any address."""
    assert exceptions_of(mesh(mode=mode, extra=extra)) == exceptions
