"""Entries → YAML that is read as the same entries, and what differs between two of them."""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from nodeagent.catalog.policy.documents import means_more

_WIDE = 4096  # a long pattern stays on its line: differences are shown by line
_HASH_CHARS = 16


class _Dumper(yaml.SafeDumper):
    """PyYAML's, for readers that take no aliases and other words for numbers."""

    def ignore_aliases(self, data: object) -> bool:
        """Always: what stands twice is written twice."""
        del data
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002 - PyYAML's signature
        """Rows of a list are indented, as most people write them."""
        del indentless
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text))


def _style(text: str) -> str | None:
    """How a text is written; None: as PyYAML likes."""
    if not text.replace("\n", "").isprintable():
        return '"'
    return "'" if means_more(text) else "|" if "\n" in text else None


_Dumper.add_representer(str, _text)


def text_of(body: Mapping[str, Any]) -> str:
    """One document."""
    made: str = yaml.dump(dict(body), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDE)
    return made


def texts_of(bodies: Sequence[Mapping[str, Any]]) -> str:
    """Several, in one stream."""
    return "---\n".join(text_of(body) for body in bodies)


def hash_of(body: Mapping[str, Any] | None) -> str:
    """Names what an entry says, whatever the order in which it does; empty for one that is not there."""
    if body is None:
        return ""
    said = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:_HASH_CHARS]


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, title: str) -> list[str]:
    """The lines by which two states of an entry differ, as `diff -u` has them; none where they do not."""
    old, new = (text_of(each).splitlines() if each is not None else [] for each in (before, after))
    named = [f"{title} ({what})" if said is not None else "/dev/null" for said, what in ((before, "catalog"), (after, "new"))]
    return list(difflib.unified_diff(old, new, named[0], named[1], lineterm=""))
