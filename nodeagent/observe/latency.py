"""How long requests took, as Prometheus has it: a histogram that is fed with counts, not with single values."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from nodeagent import limits


class Latency(Collector):
    """Owned by control's metrics."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._counts: dict[tuple[str, ...], list[float]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        registry.register(self)

    def add(self, labels: tuple[str, ...], counts: Iterable[float], seconds: float) -> None:
        """So many more in each bucket, and how long they took together."""
        mine = self._counts.setdefault(labels, [0.0] * (len(limits.REQUEST_SECONDS) + 1))
        for place, count in enumerate(counts):
            mine[place] += count
        self._sums[labels] = self._sums.get(labels, 0.0) + seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Prometheus' form: each bucket has those of all that are shorter, too."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        bounds = [*(str(bound) for bound in limits.REQUEST_SECONDS), "+Inf"]
        for labels, counts in self._counts.items():
            total, buckets = 0.0, list[tuple[str, float]]()
            for bound, count in zip(bounds, counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric(labels, buckets, self._sums[labels])
        yield family
