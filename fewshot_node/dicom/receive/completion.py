"""Completion: a series is complete when nothing of it has come for a while (its quiet period)."""

import logging
from collections.abc import Callable, Collection
from datetime import datetime

from fewshot_node.config import ReceiveSettings
from fewshot_node.dicom.ledger import Ledger, utc_now
from fewshot_node.dicom.periodic import Periodic
from fewshot_node.records import SeriesKey

logger = logging.getLogger(__name__)
_LONGEST_POLL_S = 1.0
_POLLS_PER_QUIET_PERIOD = 4


def quiet_period_s(settings: ReceiveSettings, calling_ae_title: str) -> float:
    """Return how long a series of a calling AE must be quiet to be complete."""
    return settings.quiet_period_s_by_ae.get(calling_ae_title, settings.quiet_period_s)


def close_quiet_series(
    ledger: Ledger, settings: ReceiveSettings, open_associations: Collection[str], now: datetime
) -> list[SeriesKey]:
    """Close every series whose quiet period has passed.

    Parameters
    ----------
    open_associations
        Series Instance UIDs that open associations are feeding: not closed, however slow the sender.
    """
    closed = ledger.close_quiet(now, lambda ae_title: quiet_period_s(settings, ae_title), open_associations)
    for key in closed:
        logger.info("series %s complete", key)
    return closed


def completion_loop(
    ledger: Ledger,
    settings: ReceiveSettings,
    open_associations: Callable[[], Collection[str]],
    clock: Callable[[], datetime] = utc_now,
) -> Periodic:
    """Return a thread that closes quiet series; those that it could not close the next round finds again.

    Parameters
    ----------
    open_associations
        Gives the Series Instance UIDs that open associations are feeding (`Receiver.busy_series`).
    """
    shortest = min([settings.quiet_period_s, *settings.quiet_period_s_by_ae.values()])
    return Periodic(
        "completion",
        lambda: close_quiet_series(ledger, settings, open_associations(), clock()),
        every_s=min(_LONGEST_POLL_S, shortest / _POLLS_PER_QUIET_PERIOD),
        failing="quiet series not closed",
        at_once=False,  # after a restart senders need a moment to come back
    )
