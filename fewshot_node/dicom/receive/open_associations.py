"""Which associations are open, from whom, and which series they feed."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fewshot_node.dicom.services import Rejection
from fewshot_node.dicom.upper_layer.association import Association

_MAX_UNNEGOTIATED = 128
_FEEDING_S = 300.0
"""For so long an association that has gone on to other series is taken to come back to one."""


@dataclass(slots=True)
class Feed:
    """What one association has sent so far."""

    started: float
    is_admitted: bool = False
    stored: int = 0
    refused: int = 0
    newest_series_uid: str = ""
    fed: dict[str, float] = field(default_factory=dict)
    """Series Instance UID -> when its newest instance began to be stored."""

    def series(self, now: float) -> set[str]:
        """Return the series that the association still feeds.

        The one of its newest instance, however long ago that was; the earlier ones for a while only, or a
        sender that never hangs up would keep them from ever being complete.
        """
        return {uid for uid, when in self.fed.items() if uid == self.newest_series_uid or now - when < _FEEDING_S}


class OpenAssociations:
    """The associations that are open now; every method may be called from any thread.

    Parameters
    ----------
    maximum, maximum_per_peer
        How many may be admitted at a time, in all and of one calling AE title at one address.
    """

    def __init__(self, maximum: int, maximum_per_peer: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._maximum = maximum
        self._maximum_per_peer = maximum_per_peer
        self._clock = clock
        self._feeds: dict[Association, Feed] = {}
        self._lock = threading.Lock()

    def snapshot(self) -> tuple[Association, ...]:
        """Return what is open now."""
        with self._lock:
            return tuple(self._feeds)

    def begin(self, association: Association) -> Association | None:
        """Note a new connection; return one that must give way to it.

        Connections that never ask for an association must not keep out those that will: when there are
        too many, the oldest has had the most time.
        """
        with self._lock:
            self._feeds[association] = Feed(self._clock())
            waiting = [one for one, feed in self._feeds.items() if not feed.is_admitted]
            return waiting[0] if len(waiting) > _MAX_UNNEGOTIATED else None

    def admit(self, association: Association) -> Rejection | None:
        """Count an association in, or say why it is one too many."""
        with self._lock:
            admitted = [one for one, feed in self._feeds.items() if feed.is_admitted]
            if len(admitted) >= self._maximum:
                return Rejection.TOO_MANY
            if sum(_peer(one) == _peer(association) for one in admitted) >= self._maximum_per_peer:
                return Rejection.TOO_MANY_OF_PEER
            self._feeds[association].is_admitted = True
            return None

    def feed(self, association: Association, series_instance_uid: str) -> None:
        """Note that an association is sending an instance of a series."""
        with self._lock:
            feed, now = self._feeds[association], self._clock()
            feed.newest_series_uid = series_instance_uid
            feed.fed[series_instance_uid] = now
            if len(feed.fed) > 1:
                feed.fed = {uid: when for uid, when in feed.fed.items() if uid in feed.series(now)}

    def count(self, association: Association, *, stored: bool) -> None:
        """Count an answered instance."""
        with self._lock:
            feed = self._feeds[association]
            feed.stored += stored
            feed.refused += not stored

    def end(self, association: Association) -> Feed:
        """Forget an association; return what it has sent."""
        with self._lock:
            return self._feeds.pop(association)

    def fed_series(self) -> set[str]:
        """Return the Series Instance UIDs that open associations feed."""
        with self._lock:
            now = self._clock()
            return set().union(*(feed.series(now) for feed in self._feeds.values()))


def _peer(association: Association) -> tuple[str, str]:
    return association.calling_ae_title, association.address
