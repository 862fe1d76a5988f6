"""Files of policy: what operators write, and what a directory may hold."""

import json

from nodeagent.catalog.policy.documents import parse_documents
from nodeagent.catalog.policy.entries import read_entry
from nodeagent.catalog.policy.references import reference_doubts, reference_faults
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
