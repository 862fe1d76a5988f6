"""Which subsets of a service's resolver each of its instances is in."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nodeagent import limits
from nodeagent.catalog.labels import read_labels
from nodeagent.catalog.state import InstanceRow
from nodeagent.model.policy.resolving import ServiceResolver

_Row = dict[str, Any]
_Choose = Callable[[list[_Row], int], tuple[list[_Row], int]]
"""Those that pass, and the steps that it took; the number: how many it may take."""
_Places = frozenset[int]
_NOBODY: _Places = frozenset()


def subsets_of(resolver: ServiceResolver, rows: Sequence[InstanceRow]) -> list[tuple[str, ...]]:
    """Of each row, in their order, the names of the subsets that it is in.

    Nobody is in one whose filter asks for what is not kept of instances, or when all of them together take too long, as nothing else is done
    meanwhile: its requests are refused.
    """
    asked, left = [_row(resolver.name, row) for row in rows], limits.SUBSET_STEPS
    within: dict[str, _Places] = {}
    for name, subset in resolver.subsets.items():
        left -= limits.SUBSET_ROW_STEPS * len(rows)
        within[name], steps = _chosen(subset.filter, asked, left) if left >= 0 else (_NOBODY, 0)
        left -= steps
    passing = {name: subset.only_passing for name, subset in resolver.subsets.items()}
    return [
        tuple(name for name, places in within.items() if place in places and not (passing[name] and row.is_warned))
        for place, row in enumerate(rows)
    ]


def subset_faults(resolver: ServiceResolver) -> Mapping[str, str]:
    """Why nobody can be in a subset, by its name."""
    whys = {name: _complaint(subset.filter) for name, subset in resolver.subsets.items() if subset.filter}
    return {name: why for name, why in whys.items() if why}


def _row(service: str, row: InstanceRow) -> _Row:
    """As a health row that has what is kept."""
    instance, labels = row.instance, read_labels(row.labels)
    port = instance.addresses[0].port if instance.addresses else 0
    own = {"ID": instance.id, "Service": service, "Port": port, **labels.get("Service", {})}
    return {"Node": {"Node": instance.host, **labels.get("Node", {})}, "Service": own}


def _chosen(text: str, rows: list[_Row], most: int) -> tuple[_Places, int]:
    """The places of those that pass the filter, and the steps that its patterns took, which are `most` at most."""
    if not text:
        return frozenset(range(len(rows))), 0
    choose = _question(text)
    if isinstance(choose, str):
        return _NOBODY, 0
    places = {id(row): place for place, row in enumerate(rows)}
    found, steps = choose(rows, most)
    return frozenset(places[id(row)] for row in found), steps


@functools.lru_cache(maxsize=limits.FILTER_FAULTS_KEPT)
def _complaint(text: str) -> str:
    """Remembered of many: it is asked for with each change of intentions."""
    choose = _question(text)
    return choose if isinstance(choose, str) else ""


@functools.lru_cache(maxsize=limits.FILTERS_KEPT)
def _question(text: str) -> _Choose | str:
    """What leaves those that pass; a text: why there is none."""
    from nodeagent.catalog.bexpr import BadFilter  # noqa: PLC0415 - RE2, 3 MB that only such filters need
    from nodeagent.catalog.bexpr_rows import Fields, Table, question  # noqa: PLC0415 - as above

    texts = Table("text")
    fields: Fields = {
        "Node": {"Node": "text", "Meta": texts},
        "Service": {"ID": "text", "Service": "text", "Port": "number", "Tags": "texts", "Meta": texts},
    }
    try:
        asked = question(text, fields)
    except BadFilter as error:
        return str(error)

    def choose(rows: list[_Row], most: int) -> tuple[list[_Row], int]:
        try:
            return asked.chosen(rows, max(most, 1)), asked.steps
        except BadFilter:
            return [], asked.steps

    return choose
