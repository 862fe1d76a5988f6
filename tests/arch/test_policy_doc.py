"""docs/policy.md: its entries are sound together, there is one of each kind, and it names every key of our own kinds."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nodeagent.catalog.offline import offline_snapshot
from nodeagent.catalog.policy.documents import parse_documents
from nodeagent.catalog.policy.doubts import reference_doubts
from nodeagent.catalog.policy.entries import KINDS, read_entry
from nodeagent.catalog.policy.references import reference_faults
from nodeagent.cli.policy_cases import read_cases, run_case
from nodeagent.model.policy.values import Part

TEXT = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
ENTRIES = [read_entry(each.value) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL) for each in parse_documents(block.encode())]


def keys_of(shape: type[Part]) -> Iterator[str]:
    """The keys of a kind and of what is in it, but not of a request's match, which is Consul's."""
    for field in msgspec.structs.fields(shape):
        yield field.encode_name
        for inner in re.findall(r"nodeagent\.model\.policy\.own\.(\w+)", repr(field.type)):
            yield from keys_of(getattr(__import__("nodeagent.model.policy.own", fromlist=[inner]), inner))


def test_the_entries_are_sound_together() -> None:
    """A reader may copy all of them."""
    specs = {each.key: each.spec for each in ENTRIES}
    assert reference_faults(specs, is_all=True) == []
    assert [line for lines in reference_doubts(specs, ["web", "shop"], specs).values() for line in lines] == []


def test_every_kind_is_named() -> None:
    """Those that every Consul user knows have no example of each key."""
    assert [kind for kind in KINDS if f"`{kind}`" not in TEXT and f"Kind: {kind}" not in TEXT] == []


def test_every_key_of_our_own_kinds_is_there() -> None:
    """Nobody else documents them."""
    assert [] == [key for kind in KINDS.values() if kind.is_own for key in keys_of(kind.shape) if key not in TEXT and key != "Meta"]


def test_the_cases_hold(tmp_path: Path) -> None:
    """What a reader copies does what it says."""
    file = tmp_path / "cases.yaml"
    file.write_text("".join(re.findall(r"```yml\n(.*?)```", TEXT, re.DOTALL)))
    snapshot = offline_snapshot([each.spec for each in ENTRIES])
    cases = read_cases([str(file)])
    assert len(cases) > 2
    assert [] == [difference for case in cases for difference in run_case(case, snapshot).differences]
