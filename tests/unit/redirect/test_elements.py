"""Addresses and ports as elements; what happens to them in a kernel is in tests/e2e/test_redirect_elements.py."""

import pytest

from redirect.elements import Elements, Exceptions, capture_elements
from redirect.errors import RedirectError
from redirect.settings import Settings
from tests.support.nft_sets import NftSets

CAPTURE = {f"set {name}" for name in (
    "catalog4", "catalog6", "mesh4", "mesh6", "local_ports", "loopback_ports", "except4", "except6", "except_ports", "told_open", "told_closed",
)}  # fmt: skip


def test_addresses_go_to_the_set_of_their_family_in_their_usual_form() -> None:
    """As nft prints them, so that what is listed can be compared with what was set."""
    elements = capture_elements(["10.0.0.1", "FD00:0::01", "::ffff:10.0.0.2", "10.0.0.1"], [443, 80, 80], [80])
    assert {name: values for name, values in elements.items() if values} == {
        "set mesh4": {"10.0.0.1", "10.0.0.2"}, "set mesh6": {"fd00::1"}, "set local_ports": {"80", "443"},
        "set loopback_ports": {"80"},
    }  # fmt: skip


def test_nothing_is_empty_sets() -> None:
    """They are emptied then, not left as they were; nobody has said what may bypass a dead agent."""
    elements = capture_elements([], [])
    assert elements.keys() == CAPTURE
    assert not any(elements.values())


def test_exceptions_say_from_which_mode_they_are() -> None:
    """Those of an open host stay closed, those of a closed one are let by: one must never be taken for the other."""
    exceptions = Exceptions("open", (("10.0.0.1", 80), ("FD00::1", 80), ("::ffff:10.0.0.2", 443)), (7000,))
    elements = capture_elements([], [], exceptions=exceptions)
    assert {name: values for name, values in elements.items() if values} == {
        "set except4": {"10.0.0.1 . 80", "10.0.0.2 . 443"}, "set except6": {"fd00::1 . 80"}, "set except_ports": {"7000"},
        "set told_open": {"tcp"},
    }  # fmt: skip
    assert [*elements][-2:] == ["set told_open", "set told_closed"]


def test_what_bypassed_is_read_from_what_nft_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: the kernel counts from 0 again."""
    kernel = NftSets(monkeypatch)
    elements = Elements(Settings(agent_uids=(64901,)))
    kernel.bypassed = 3
    assert [elements.take_bypassed(), elements.take_bypassed()] == [3, 0]


def test_marks_of_callers_that_may_bypass_come_back_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table that was made anew."""
    kernel = NftSets(monkeypatch)
    elements = Elements(Settings(agent_uids=(64901,), knows_callers=True))
    elements.set_units({}, [0x5A000002])
    kernel["open_callers"].clear()
    elements.restore()
    assert kernel["open_callers"] == {"0x5a000002"}


def test_where_the_catalog_is_has_sets_of_its_own() -> None:
    """At one port it is not captured there, whatever else is."""
    elements = capture_elements(["10.0.0.1"], [], catalog=["10.0.0.9", "FD00::9"])
    assert (elements["set catalog4"], elements["set catalog6"], elements["set mesh4"]) == ({"10.0.0.9"}, {"fd00::9"}, {"10.0.0.1"})


def test_until_exceptions_are_told_anew_nothing_bypasses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is captured stays."""
    kernel = NftSets(monkeypatch)
    elements = Elements(Settings(agent_uids=(64901,), fail="open"))
    elements.set_capture(["10.0.0.1"], [], exceptions=Exceptions("open"))
    assert kernel["told_open"] == {"tcp"}
    elements.untell()
    assert (kernel["told_open"], kernel["told_closed"], kernel["mesh4"]) == (set(), set(), {"10.0.0.1"})


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
