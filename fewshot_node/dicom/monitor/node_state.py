"""What Prometheus is told of spool and ledger: looked up at the time of each scrape."""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import TypeVar

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fewshot_node.dicom.ledger import DeliveryState, Ledger, SeriesState, utc_now
from fewshot_node.dicom.monitor.metrics import NAMESPACE
from fewshot_node.dicom.monitor.probe import Probe
from fewshot_node.dicom.spool import Spool

logger = logging.getLogger(__name__)

Found = TypeVar("Found")


class NodeState(Collector):
    """Room in the spool, series and deliveries by state, the oldest open series and what the ledger is still owed.

    What cannot be found out is left out of the scrape; ``fewshot_node_ledger_up`` is 0 when it is the ledger.

    Parameters
    ----------
    unflushed
        Gives the Series Instance UIDs whose counts are not in the ledger yet.
    """

    def __init__(self, spool: Spool, ledger: Ledger, unflushed: Callable[[], Collection[str]]) -> None:
        self._disk = Probe(lambda: shutil.disk_usage(spool.root))
        self._ledger = Probe(lambda: (ledger.counts(), ledger.oldest_open(), ledger.delivery_counts()))
        self._unflushed = Probe(lambda: len(unflushed()))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the metrics as they are now."""
        for probe in (self._disk, self._ledger, self._unflushed):
            probe.start()  # all at once: what hangs must not be waited for three times over
        disk = _find(self._disk, "spool")
        if disk is not None:
            yield _gauge("spool_free_bytes", "Room on the spool's file system.", disk.free)
            yield _gauge("spool_size_bytes", "Size of the spool's file system.", disk.total)
        found = _find(self._ledger, "ledger")
        yield _gauge("ledger_up", "Whether the ledger answers.", float(found is not None))
        if found is not None:
            yield from _series(*found[:2])
            yield _deliveries(found[2])
        unflushed = _find(self._unflushed, "unflushed counts")
        if unflushed is not None:
            yield _gauge("ledger_unflushed_series", "Series whose counts are not in the ledger yet.", unflushed)


def _series(counts: Mapping[SeriesState, int], oldest_open: datetime | None) -> Iterator[GaugeMetricFamily]:
    states = GaugeMetricFamily(f"{NAMESPACE}_series", "Series by the state of their newest revision.", labels=["state"])
    for state in SeriesState:
        states.add_metric([state.value.replace(" ", "_")], counts[state])
    yield states
    age_s = 0.0 if oldest_open is None else max(0.0, (utc_now() - oldest_open).total_seconds())
    text = "Age of the series that has been open longest, from its first instance; 0 when none is open."
    yield _gauge("oldest_open_series_seconds", text, age_s)


def _deliveries(counts: Mapping[tuple[str, DeliveryState], int]) -> GaugeMetricFamily:
    text = "Deliveries of results by destination and state."
    gauge = GaugeMetricFamily(f"{NAMESPACE}_deliveries", text, labels=["destination", "state"])
    total: Counter[tuple[str, DeliveryState]] = Counter()
    for (destination, state), count in counts.items():
        name = destination.partition("/")[0]  # not whom they go back to: a peer must not add a time series
        total[name, state] += count
    for name in sorted({name for name, _ in total}):
        for state in DeliveryState:
            gauge.add_metric([name, state.value.replace(" ", "_")], total[name, state])
    return gauge


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", text, value)


def _find(probe: Probe[Found], name: str) -> Found | None:
    try:
        return probe.answer()
    except Exception as error:  # noqa: BLE001  the scraper gets the rest, whatever is wrong with this
        logger.debug("scrape without %s (%s)", name, type(error).__name__)
        return None
