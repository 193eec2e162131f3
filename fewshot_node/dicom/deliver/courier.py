"""The courier: tries what is due, each destination in a thread of its own, so that a slow one keeps no other."""

import logging
import threading
from collections import defaultdict
from collections.abc import Sequence

from fewshot_node.config import NodeSettings
from fewshot_node.dicom.deliver.attempts import Attempts
from fewshot_node.dicom.deliver.expiry import remove_confirmed, remove_old_shadows, remove_rejected
from fewshot_node.dicom.ledger import Delivery, Ledger, utc_now
from fewshot_node.dicom.periodic import Periodic
from fewshot_node.dicom.running import Running
from fewshot_node.errors import RetryableError

logger = logging.getLogger(__name__)


class Courier(Running):
    """Delivers what lies in the outbox, until everything is confirmed or a dead letter."""

    def __init__(self, ledger: Ledger, settings: NodeSettings, attempts: Attempts | None = None) -> None:
        self._ledger = ledger
        self._attempts = attempts or Attempts(ledger, settings)
        self._rounds = Periodic("courier", self._round, settings.delivery.poll_s, "deliveries wait")
        self._expiry = Periodic(
            "outbox",
            lambda: _clear_outbox(ledger, settings),
            settings.retention.every_s,
            "the outbox is cleared later",
        )
        self._stopping = threading.Event()
        self._busy: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin; what an earlier run left is in the ledger."""
        self._stopping.clear()
        self._rounds.start()
        self._expiry.start()

    def stop(self) -> None:
        """Stop, after the tries that are under way."""
        self._stopping.set()
        self._rounds.stop()
        self._expiry.stop()
        with self._lock:
            threads = list(self._busy.values())
        for thread in threads:
            thread.join()

    def _round(self) -> None:
        due: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in self._ledger.due_deliveries(utc_now()):
            due[delivery.destination].append(delivery)
        for destination, deliveries in due.items():
            self._start(destination, deliveries)

    def _start(self, destination: str, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            if destination in self._busy or self._stopping.is_set():
                return
            name = f"courier to {destination}"
            thread = threading.Thread(target=self._deliver, args=(destination, deliveries), name=name, daemon=True)
            self._busy[destination] = thread
            thread.start()

    def _deliver(self, destination: str, deliveries: Sequence[Delivery]) -> None:
        """Try deliveries one after the other, until the destination turns out to be out of reach."""
        try:
            for delivery in deliveries:
                end = None if self._stopping.is_set() else self._attempts.make(delivery)
                if self._stopping.is_set() or (end is not None and end.out_of_reach):
                    return
        except RetryableError as error:
            logger.warning("deliveries to %s wait: %s", destination, error)
        finally:
            with self._lock:
                del self._busy[destination]


def _clear_outbox(ledger: Ledger, settings: NodeSettings) -> None:
    now = utc_now()
    remove_confirmed(settings.outbox, ledger, settings.delivery.keep_days, now)
    remove_rejected(settings.outbox, settings.delivery, now)
    remove_old_shadows(settings.shadow, settings.delivery.keep_days, now)
