"""Files, directories and standard input → sound entries, or all that is wrong in all of them."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nodeagent import limits
from nodeagent.catalog.policy.documents import parse_documents
from nodeagent.catalog.policy.entries import Entry, Key, read_entry
from nodeagent.errors import PolicyError

STDIN = "-"
_SUFFIXES = (".yaml", ".yml", ".json")


class Given(NamedTuple):
    """An entry, and where it was read."""

    place: str
    entry: Entry


def read_given(paths: Sequence[str]) -> dict[Key, Given]:
    """The entries of all files, each once.

    Raises:
        PolicyError: what is wrong with them, each with file and line.
    """
    found: dict[Key, Given] = {}
    faults: list[str] = []
    for name, text in _texts(paths, faults):
        for place, entry in _entries(name, text, faults):
            if entry.key in found:
                faults.append(f"{place}: {entry.key}: stands in {found[entry.key].place}, too")
            found[entry.key] = Given(place, entry)
    if faults:
        raise PolicyError(*faults)
    if not found:
        raise PolicyError(f"{', '.join(paths)}: no entry is there; an entry is a document with Kind and Name")
    return found


def _texts(paths: Sequence[str], faults: list[str]) -> Iterator[tuple[str, bytes]]:
    """Each file's name and content."""
    for path in paths:
        if path == STDIN:
            yield "standard input", sys.stdin.buffer.read(limits.POLICY_FILE_BYTES + 1)
            continue
        try:
            for file in _files(Path(path)):
                with file.open("rb") as opened:
                    yield str(file), opened.read(limits.POLICY_FILE_BYTES + 1)
        except OSError as error:
            faults.append(f"{error.filename or path}: cannot be read: {error.strerror or error}")
        except PolicyError as error:
            faults.extend(error.faults)


def _files(path: Path) -> list[Path]:
    """The file, or those in and below the directory that are of policy by their names; hidden ones are not."""
    if not path.is_dir():
        return [path]
    found: list[Path] = []
    for each in path.rglob("*"):
        inside = each.relative_to(path).parts
        if each.suffix in _SUFFIXES and not any(part.startswith(".") for part in inside) and each.is_file():
            found.append(each)
        if len(found) > limits.POLICY_FILES:
            raise PolicyError(f"{path}: has more than {limits.POLICY_FILES} files")
    if not found:
        raise PolicyError(f"{path}: no file there ends with {', '.join(_SUFFIXES)}")
    return sorted(found)


def _entries(name: str, text: bytes, faults: list[str]) -> Iterator[Given]:
    if name.endswith(".hcl"):
        faults.append(f"{name}: HCL is not read; `consul config read` prints JSON of what was written, which is")
        return
    try:
        documents = parse_documents(text)
    except PolicyError as error:
        faults.extend(f"{name}: {fault}" for fault in error.faults)
        return
    for document in documents:
        place = f"{name}:{document.line}"
        try:
            yield Given(place, read_entry(document.value))
        except PolicyError as error:
            faults.extend(f"{place}: {fault}" for fault in error.faults)
