"""Registrations kept as text."""

import pytest

from nodeagent.catalog.registrations import by_address, by_port, row_text, rows_of
from nodeagent.model.address import Address
from nodeagent.model.service import Instance, Service
from nodeagent.model.snapshot import Registration

V4, V6 = Address("10.0.0.1", 80), Address("fd00::1", 80)
WEB = Service("web", instances=(Instance("a", "h", (V4,)), Instance("b", "h", (V6,))))
SERVICES = {"web": WEB}


def test_a_registration_is_looked_up_by_its_key() -> None:
    """By address in either family, or by port; what is not there is missing as in any map."""
    found = by_address({"10.0.0.1:80": row_text("web", 0), "[fd00::1]:80": row_text("web", 1)}, SERVICES)
    assert {V4: Registration(WEB, WEB.instances[0]), V6: Registration(WEB, WEB.instances[1])} == dict(found)
    assert (2, None) == (len(found), found.get(Address("10.0.0.1", 81)))
    assert WEB.instances[1] == by_port({"80": row_text("web", 1)}, SERVICES)[80].instance
    with pytest.raises(KeyError):
        found[Address("10.0.0.1", 81)]


def test_rows_are_found_behind_any_map_of_registrations() -> None:
    """Behind our own view without work, behind a plain dict by looking."""
    rows = {"10.0.0.1:80": "0 web", "[fd00::1]:80": "1 web"}
    assert rows_of(by_address(rows, SERVICES)) is rows
    assert rows == rows_of(dict(by_address(rows, SERVICES)))
