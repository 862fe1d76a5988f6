"""What control may have captured, and what never."""

import pytest

from nodeagent import limits
from nodeagent.process.capture import NEVER_PORTS, Capture, check_capture, follow_capture, try_address
from nodeagent.wire.frames import CaptureFrame
from redirect.elements import Exceptions


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("fd77::0002", "fd77::2"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("240.0.0.5", "240.0.0.5"),
        ("8.8.8.8", "8.8.8.8"),
    ],
)
def test_ordinary_addresses_are_taken_in_their_one_spelling(text: str, address: str) -> None:
    """Also virtual ones."""
    assert try_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1",
        "169.254.169.254", "fe80::1", "fe80::1%eth0", "255.255.255.255", "10.0.0.0/8", "host", "", "10.0.0.7; flush ruleset",
    ],
)  # fmt: skip
def test_addresses_that_would_cut_the_host_off_are_not(text: str) -> None:
    """Loopback, unspecified, multicast, link-local with the metadata service, and what is no address."""
    assert try_address(text) is None


def test_a_frame_is_cleaned_value_by_value() -> None:
    """One bad value does not cost the others; each is named for the log."""
    frame = CaptureFrame(["10.0.0.2", "127.0.0.1", "10.0.0.1", "::ffff:10.0.0.2"], [8080, 22, 80, 0, 70000, 8080])
    assert check_capture(frame) == Capture(
        ("10.0.0.1", "10.0.0.2"), (80, 8080), ("address '127.0.0.1'", "port 22", "port 0", "port 70000")
    )


def test_only_captured_ports_can_be_captured_on_loopback() -> None:
    """What is none of this host's services, or never captured, is not captured there either."""
    capture = check_capture(CaptureFrame([], [8080, 22, 80], [8080, 22, 9000]))
    assert ((80, 8080), (8080,)) == (capture.ports, capture.loopback_ports)


def test_the_agents_own_ports_and_the_way_in_are_never_captured() -> None:
    """A service registered there by mistake does not lock anybody out, nor make a loop."""
    assert check_capture(CaptureFrame([], sorted(NEVER_PORTS))).ports == ()
    assert {22, 53, 8500, limits.OUTBOUND_PORT, limits.INBOUND_PORT, limits.TUNNEL_PORT} <= NEVER_PORTS


def test_exceptions_from_the_fail_mode_are_taken_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a list of what stays closed would open the other half."""
    monkeypatch.setattr(limits, "CAPTURE_ENDPOINTS", 2)
    told = [("10.0.0.2", 80), ("::ffff:10.0.0.1", 80)]
    assert check_capture(CaptureFrame([], [], [], "open", told, [7000])).exceptions == Exceptions(
        "open", (("10.0.0.1", 80), ("10.0.0.2", 80)), (7000,)
    )
    assert check_capture(CaptureFrame([], [], [], "open", [*told, ("10.0.0.3", 80)])).exceptions is None
    monkeypatch.setattr(limits, "CAPTURE_PORTS", 1)
    assert check_capture(CaptureFrame([], [], [], "open", told, [7000, 7001])).exceptions is None


@pytest.mark.parametrize("fail", ["", "ajar", "open; flush ruleset"])
def test_without_a_known_fail_mode_nothing_may_bypass(fail: str) -> None:
    """An older control says nothing of it."""
    assert check_capture(CaptureFrame([], [], [], fail, [("10.0.0.2", 80)])).exceptions is None


def test_an_endpoint_that_is_never_captured_is_no_exception() -> None:
    """Nobody gets a command of his own into nft by it."""
    endpoints = [("127.0.0.1", 80), ("10.0.0.1 . 80 }; flush ruleset", 80), ("10.0.0.1", 0), ("10.0.0.1", 99_999)]
    assert check_capture(CaptureFrame([], [], [], "closed", endpoints, [0, -1])).exceptions == Exceptions("closed")


def test_what_is_beyond_the_limits_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control process that was taken over cannot fill the kernel's memory."""
    monkeypatch.setattr(limits, "CAPTURE_ADDRESSES", 2)
    monkeypatch.setattr(limits, "CAPTURE_PORTS", 1)
    capture = check_capture(CaptureFrame(["10.0.0.1", "10.0.0.2", "10.0.0.3"], [80, 81]))
    assert capture.addresses == ("10.0.0.1", "10.0.0.2")
    assert capture.ports == (80,)
    assert capture.overflow == "1 addresses beyond the limit of 2; 1 ports beyond the limit of 1"


def test_a_cut_off_list_lets_go_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is captured stays so, and there is room for new ones up to the limit."""
    monkeypatch.setattr(limits, "CAPTURE_ADDRESSES", 3)
    before = Capture(("10.0.0.8", "10.0.0.9"), (80,), loopback_ports=(80,))
    said = check_capture(CaptureFrame([f"10.0.0.{number}" for number in range(1, 6)], [81]))
    after = follow_capture(before, said)
    assert after.addresses == ("10.0.0.1", "10.0.0.8", "10.0.0.9")
    assert after.ports == (80, 81)
    assert after.loopback_ports == (80,)
    assert after.overflow == said.overflow
    assert follow_capture(after, said).addresses == after.addresses


def test_a_whole_list_is_followed_to_the_letter() -> None:
    """What is no longer in it is let go."""
    said = check_capture(CaptureFrame(["10.0.0.1"], [81]))
    assert follow_capture(Capture(("10.0.0.8",), (80,)), said) == said


def test_where_the_catalog_is_stays_known_while_nobody_can_tell() -> None:
    """A control that has just been started knows it when it has reached the catalog."""
    said = check_capture(CaptureFrame([], [80], catalog=["fd77::0009", "10.0.0.9", "127.0.0.1", "nowhere; flush ruleset"]))
    assert said.catalog == ("10.0.0.9", "fd77::9")
    assert follow_capture(said, check_capture(CaptureFrame([], [81]))) == Capture((), (81,), catalog=said.catalog)
    moved = check_capture(CaptureFrame([], [81], catalog=["10.0.0.8"]))
    assert follow_capture(said, moved) == moved


def test_a_catalog_has_so_many_addresses_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers for its name does not fill the kernel's sets."""
    monkeypatch.setattr(limits, "CATALOG_ADDRESSES", 2)
    assert check_capture(CaptureFrame([], [], catalog=["10.0.0.1", "10.0.0.2", "10.0.0.3"])).catalog == ("10.0.0.1", "10.0.0.2")
