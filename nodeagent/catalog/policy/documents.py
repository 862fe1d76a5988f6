"""Text → documents: YAML or JSON, one or several, as plain values with the line where each begins.

What readers of YAML differ about is not taken: keys that stand twice, anchors and aliases (a few lines of them are gigabytes),
tags, `yes` and `on` for true. Plain words are JSON's: true, false, null, numbers; all else is text.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from nodeagent import limits
from nodeagent.errors import PolicyError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS = {"null": None, "Null": None, "NULL": None, "~": None, "": None, "true": True, "True": True, "false": False, "False": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,40})", re.ASCII)
_NUMBER = re.compile(r"[-+]?[0-9]{1,20}(\.[0-9]{0,30})?([eE][-+]?[0-9]{1,3})?", re.ASCII)
_SHOWN_CHARS = 80


class Document(NamedTuple):
    """One document of a text."""

    line: int
    value: Any


def parse_documents(text: bytes) -> list[Document]:
    """The documents in a text; a list at the top is a document for each of its rows, and an empty one is none.

    Raises:
        PolicyError: neither YAML nor JSON, or beyond a limit; says where.
    """
    if len(text) > limits.POLICY_FILE_BYTES:
        raise PolicyError(f"has {len(text)} bytes, and may have {limits.POLICY_FILE_BYTES}")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PolicyError(f"is not UTF-8: {error}") from None
    found = [each for document in _documents(decoded) for each in _rows(document)]
    if len(found) > limits.POLICY_DOCUMENTS:
        raise PolicyError(f"has {len(found)} documents, and may have {limits.POLICY_DOCUMENTS}")
    return found


def means_more(word: str) -> bool:
    """Whether a text would be read as something else, were it written as a plain word."""
    return word == "<<" or not isinstance(_plain(word), str)


def _rows(document: Document) -> list[Document]:
    if isinstance(document.value, list):
        return [Document(document.line, row) for row in document.value]
    return [] if document.value is None else [document]


def _documents(text: str) -> Iterator[Document]:
    return iter(_json_documents(text) if text.lstrip()[:1] in ("{", "[") else _yaml_documents(text))


# --- JSON ----------------------------------------------------------------------------------------------------------


def _json_documents(text: str) -> list[Document]:
    """Values one after the other, with nothing or `---` between them."""
    decoder = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite)
    found, at = list[Document](), _skip(text, 0)
    line, counted = 1, 0
    while at < len(text):
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise PolicyError(f"line {error.lineno}: not JSON: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise PolicyError(f"line {line}: not JSON: {'nested too deeply' if isinstance(error, RecursionError) else error}") from None
        found.append(Document(line, value))
        at = _skip(text, end)
        if len(found) > limits.POLICY_DOCUMENTS:
            raise PolicyError(f"has more than {limits.POLICY_DOCUMENTS} documents")
    return found


def _skip(text: str, at: int) -> int:
    between = re.compile(r"\s*(?:---\s*)?").match(text, at)
    return between.end() if between else at


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key[:_SHOWN_CHARS]!r} stands twice")
        made[key] = value
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:_SHOWN_CHARS]} is too large a number")
    return number


# --- YAML ----------------------------------------------------------------------------------------------------------


def _yaml_documents(text: str) -> list[Document]:
    """Every document of a stream, built from its events: no tag and no alias is ever followed."""
    found, builder = list[Document](), _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder()
            elif isinstance(event, yaml.DocumentEndEvent):
                found.append(Document(builder.line, builder.value))
            elif not isinstance(event, (yaml.StreamStartEvent, yaml.StreamEndEvent)):
                builder.take(event)
            if len(found) > limits.POLICY_DOCUMENTS:
                raise PolicyError(f"has more than {limits.POLICY_DOCUMENTS} documents")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise PolicyError(f"line {line}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise PolicyError(f"not YAML: {' '.join(str(error).split())[:_SHOWN_CHARS]}") from None
    return found


class _Builder:
    """One document's value, made of its events; owned by one parse."""

    def __init__(self) -> None:
        self.value: Any = None
        self.line = 0
        self._open: list[Any] = []
        self._keys: list[Any] = []
        """The key that waits for its value, for each that is open; _NO_KEY where a key comes next."""

    def take(self, event: Any) -> None:
        """The next event.

        Raises:
            PolicyError: what is not taken; says the line.
        """
        self.line = self.line or event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refusal(event, "anchors and aliases are not taken: write it out")
        if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            self._open.pop()
            self._keys.pop()
            return
        if event.tag not in (None, "!"):
            raise _refusal(event, f"the tag {event.tag[:_SHOWN_CHARS]} is not taken")
        if isinstance(event, yaml.ScalarEvent):
            self._place(event, _plain(event.value) if event.implicit[0] else event.value)
            return
        made: Any = [] if isinstance(event, yaml.SequenceStartEvent) else {}
        self._place(event, made)
        if len(self._open) >= limits.POLICY_DEPTH:
            raise _refusal(event, f"nested deeper than {limits.POLICY_DEPTH}")
        self._open.append(made)
        self._keys.append(_NO_KEY)

    def _place(self, event: Any, value: Any) -> None:
        if not self._open:
            self.value = value
        elif isinstance(self._open[-1], list):
            self._open[-1].append(value)
        elif self._keys[-1] is _NO_KEY:
            self._keys[-1] = self._key(event)
        else:
            self._open[-1][self._keys[-1]] = value
            self._keys[-1] = _NO_KEY

    def _key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise _refusal(event, "a key is a text")
        key: str = event.value
        if key == "<<" and event.implicit[0]:
            raise _refusal(event, "merging (<<) is not taken: write it out")
        if key in self._open[-1]:
            raise _refusal(event, f"the key {key[:_SHOWN_CHARS]!r} stands twice")
        return key


_NO_KEY = object()


def _refusal(event: Any, says: str) -> PolicyError:
    return PolicyError(f"line {event.start_mark.line + 1}: {says}")


def _plain(word: str) -> Any:
    """What a plain word means: JSON's words and numbers; all else is text."""
    if word in _WORDS:
        return _WORDS[word]
    if _INTEGER.fullmatch(word):
        return int(word)
    if _NUMBER.fullmatch(word) and ("." in word or "e" in word.lower()):
        number = float(word)
        return number if math.isfinite(number) else word
    return word
