"""What the receiver counts, for Prometheus.

No label takes a value that a peer chooses: AE titles, UIDs and addresses stay out, statuses and reasons are
those of this node's own tables. So the number of time series is fixed when the process starts, whatever comes.
"""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from fewshot_node.dicom.services import Rejection
from fewshot_node.dicom.store_status import StoreStatus

NAMESPACE = "fewshot_node"
OTHER = "other"
"""Label of a status or a reason that is none of ours."""
STATUSES = {int(status): f"{status:04X}" for status in StoreStatus}
REJECTION_REASONS = frozenset({rejection.name.lower() for rejection in Rejection} | {"address", "tls", "no_request"})
"""Rejected associations by their reason; and connections from an address that may not connect, that failed to
agree on TLS, or that asked for no association in time."""

_STORED = frozenset({int(StoreStatus.SUCCESS), int(StoreStatus.COERCION)})
_STORE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class IntakeMetrics:
    """Counters of one receiver, in a registry of their own; every method may be called from any thread."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        options: dict[str, Any] = {"namespace": NAMESPACE, "registry": registry}
        self._open = Gauge("associations_open", "Associations that are open now.", **options)
        self._opened = Counter("associations", "Associations that were accepted.", **options)
        self._bytes = Counter("received_bytes", "Bytes of the instances that were answered with success.", **options)
        self._seconds = Histogram(
            "store_seconds",
            "From the first byte of a C-STORE request to its answer.",
            buckets=_STORE_SECONDS,
            **options,
        )
        answered = Counter("instances", "C-STORE requests that were answered, by status.", ["status"], **options)
        rejected = Counter("rejections", "Associations that were rejected, by reason.", ["reason"], **options)
        # All of them from the start: a rate needs the zero before the first one.
        self._answered = {label: answered.labels(label) for label in (*STATUSES.values(), OTHER)}
        self._rejected = {label: rejected.labels(label) for label in (*sorted(REJECTION_REASONS), OTHER)}
        ProcessCollector(registry=registry)

    def association_opened(self) -> None:
        """Count an association that was accepted."""
        self._opened.inc()
        self._open.inc()

    def association_closed(self) -> None:
        """Count the end of an association that was accepted."""
        self._open.dec()

    def rejected(self, reason: str) -> None:
        """Count a rejected association; `reason` is one of `REJECTION_REASONS`."""
        self._rejected.get(reason, self._rejected[OTHER]).inc()

    def answered(self, status: int, size: int, seconds: float | None = None) -> None:
        """Count an answered C-STORE request.

        Parameters
        ----------
        size
            Bytes of the instance; they count when the status says that it is stored.
        seconds
            From the first byte of the request to the answer; None where that was not measured.
        """
        self._answered.get(STATUSES.get(status, OTHER), self._answered[OTHER]).inc()
        if status in _STORED:
            self._bytes.inc(size)
        if seconds is not None:
            self._seconds.observe(seconds)

    def add(self, collector: Collector) -> None:
        """Show also what a collector finds at the time of each scrape."""
        self._registry.register(collector)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)
