"""What may bypass a dead agent, and how it is told as exceptions."""

import pytest

from nodeagent.decide.bypass import Exceptions, exceptions_of, may_bypass
from nodeagent.model.address import Address
from nodeagent.model.snapshot import Fail
from tests.support.mesh import CART, HOST1, LEGACY, SHOP, WEB, WEB6, instance, mesh

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


@pytest.mark.parametrize(
    ("extra", "fail", "excepted", "ports"),
    [
        ('[service.alpha]\nfail = "open"\n[service.zeta]\nmode = "strict"\n', "closed", "alpha", ()),
        ('[service.zeta]\nfail = "open"\n', "closed", "zeta", ()),
        ('[service.alpha]\nfail = "open"\n[service.zeta]\nfail = "open"\n', "closed", "both", (8080,)),
        (OPEN + '[service.zeta]\nmode = "strict"\n', "open", "zeta", (8080,)),
        (OPEN + '[service.alpha]\nfail = "closed"\n', "open", "alpha", (8080,)),
        (OPEN, "open", "", ()),
    ],
)
@pytest.mark.parametrize("is_turned", [False, True])
def test_where_services_share_a_port_the_strictest_decides(
    extra: str, fail: Fail, excepted: str, ports: tuple[int, ...], *, is_turned: bool
) -> None:
    """The rules ask for the port alone; whichever of both is found by it at the host's other addresses."""
    ips = ("fd77::1", "10.77.0.1") if is_turned else ("10.77.0.1", "fd77::1")
    named = {"alpha": Address(ips[0], 8080), "zeta": Address(ips[1], 8080)}
    both = {name: (instance(HOST1, 8080, ips=(address.ip,), id_=name),) for name, address in named.items()}
    endpoints = tuple(sorted(address for name, address in named.items() if excepted in (name, "both")))
    assert exceptions_of(mesh(mode="observe", extra=extra, **both)) == Exceptions(fail, endpoints, ports)
