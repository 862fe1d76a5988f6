"""Policy: the files that operators write, and the trails that anybody with the right to write keys may have spoiled."""

import json

import msgspec

from nodeagent.catalog.policy.audit import Actor, Change, Trail, extended, parse_trail
from nodeagent.catalog.policy.documents import parse_documents
from nodeagent.catalog.policy.doubts import reference_doubts
from nodeagent.catalog.policy.entries import Key, read_entry
from nodeagent.catalog.policy.references import reference_faults
from nodeagent.cli.policy_show import show_history
from nodeagent.errors import PolicyError


def policy_file(data: bytes) -> bool:
    """Documents, each an entry that says the same when it is read again, or a PolicyError that says why not."""
    try:
        entries = [read_entry(document.value) for document in parse_documents(data)]
    except PolicyError as error:
        assert error.faults
        assert all(error.faults)
        return False
    for entry in entries:
        assert read_entry(json.loads(json.dumps(entry.body))).spec == entry.spec
        assert all(entry.doubts)
    specs = {entry.key: entry.spec for entry in entries}
    assert all(reference_faults(specs, is_all=True))
    assert set(reference_doubts(specs, ())) == set(specs)
    return bool(entries)


def policy_trail(data: bytes) -> bool:
    """A trail, to which another change is put, and which is told; what is none is not written to."""
    trail = parse_trail(data) or Trail()
    change = Change(1.0, Actor(0, "root", "host1"), "changed", "a", "b", "old", "new")
    longer = extended(trail, change)
    assert parse_trail(msgspec.json.encode(longer)) == longer
    show_history({Key("mesh", "mesh"): longer}, {}, "table", with_text=True, no_headers=True)
    return bool(trail.changes)
