"""Key material on its way."""

import msgspec

from nodeagent.model.identity import KeyRing, SvidKeys


def test_no_key_is_ever_shown() -> None:
    """Neither by its own repr nor by that of what holds it."""
    ring = KeyRing("td", "roots", (SvidKeys("web", "chain", "SECRET-KEY", 0.0, "7"),))
    for text in (repr(ring), str(ring), f"{ring.svids[0]!r}", repr([ring])):
        assert "SECRET-KEY" not in text
    assert "SvidKeys('web', serial='7')" == repr(ring.svids[0])


def test_key_material_survives_the_channel() -> None:
    """Nothing is lost between control and worker."""
    ring = KeyRing("td", "roots", (SvidKeys("web", "chain", "key", 1.5, "7"),))
    assert ring == msgspec.msgpack.decode(msgspec.msgpack.encode(ring), type=KeyRing)
