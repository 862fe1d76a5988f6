"""Addresses and ports as elements; what happens to them in a kernel is in tests/e2e/test_redirect_elements.py."""

import pytest

from redirect.elements import Elements, capture_elements
from redirect.errors import RedirectError
from redirect.settings import Settings
from tests.support.nft_sets import NftSets


def test_addresses_go_to_the_set_of_their_family_in_their_usual_form() -> None:
    """As nft prints them, so that what is listed can be compared with what was set."""
    elements = capture_elements(["10.0.0.1", "FD00:0::01", "::ffff:10.0.0.2", "10.0.0.1"], [443, 80, 80], [80])
    assert elements == {
        "set mesh4": {"10.0.0.1", "10.0.0.2"}, "set mesh6": {"fd00::1"}, "set local_ports": {"80", "443"},
        "set loopback_ports": {"80"},
    }  # fmt: skip


def test_nothing_is_four_empty_sets() -> None:
    """They are emptied then, not left as they were."""
    assert capture_elements([], []) == {
        "set mesh4": frozenset(),
        "set mesh6": frozenset(),
        "set local_ports": frozenset(),
        "set loopback_ports": frozenset(),
    }


@pytest.mark.parametrize(
    "address", ["", "10.0.0.256", "010.0.0.1", "10.0.0.1/8", "host", "fe80::1%eth0", "::1::", "1.2.3.4 }", "\0"]
)
def test_what_is_no_address_is_refused_by_name(address: str) -> None:
    """The catalog is not trusted to write nft commands."""
    with pytest.raises(RedirectError, match="is no IP address"):
        capture_elements(["10.0.0.1", address], [])


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port_is_refused_by_name(port: int) -> None:
    """As above."""
    with pytest.raises(RedirectError, match=f"port {port}"):
        capture_elements([], [80, port])


def test_what_could_not_be_put_back_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an empty set would be what is expected, and traffic in clear no difference."""
    kernel = NftSets(monkeypatch)
    elements = Elements(Settings(agent_uids=(64901,)))
    elements.set_capture(["10.0.0.1"], [80])
    kernel["mesh4"].clear()
    kernel.refuses = True
    with pytest.raises(RedirectError):
        elements.restore()
    assert elements.verify_capture() == ("set mesh4: elements missing: 1, such as 10.0.0.1",)
    kernel.refuses = False
    elements.restore()
    assert elements.verify_capture() == ()
