"""Text of any kind is an address, a selector, or a ValueError."""

from hypothesis import example, given
from hypothesis import strategies as st

from nodeagent.model.address import Address, parse_address
from nodeagent.model.names import is_service_name
from nodeagent.model.workload import parse_selector

IPS = st.ip_addresses().map(str)
NEARLY = st.one_of(
    st.text(max_size=60),
    st.text("0123456789abcdef:.[]%", max_size=40),
    st.builds("{}:{}".format, IPS, st.integers(-5, 70_000)),
    st.builds("[{}]:{}".format, IPS, st.integers(-5, 70_000)),
)


@given(NEARLY)
@example("[[::1]]:80")
@example("[::1%[]:80")
def test_an_address_that_is_parsed_has_one_spelling(text: str) -> None:
    """Parsed, printed and parsed again it is the same; its port is a port."""
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert address == parse_address(str(address))
    assert 1 <= address.port <= 65535


@given(IPS, st.integers(1, 65535))
def test_every_address_can_be_written_and_read(ip: str, port: int) -> None:
    """In either family; an IPv4-mapped one becomes IPv4."""
    once = parse_address(str(Address(ip, port)))
    assert once == parse_address(str(once))


@given(st.text(max_size=40) | st.builds("{}:{}".format, st.sampled_from(["systemd:id", "unix:uid", "unix:gid"]), st.text(max_size=20)))
def test_a_selector_is_parsed_or_refused(text: str) -> None:
    """What is parsed says again what was written."""
    try:
        selector = parse_selector(text)
    except ValueError:
        return
    assert text == f"{selector.kind}:{selector.value}"


@given(st.text(max_size=140))
def test_a_service_name_has_no_character_that_means_something_elsewhere(text: str) -> None:
    """Neither in a path, nor in a URI, nor in a log line."""
    if is_service_name(text):
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set("*/@: \\%?#[]")
