"""N-EVENT-REPORTs (PS3.7 10.1.1) that other threads want sent over an association."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from pydicom.dataset import Dataset


@dataclass(slots=True, eq=False)
class EventReport:
    """An N-EVENT-REPORT, from the wish to send it to its answer.

    Attributes
    ----------
    sop
        SOP Class UID and SOP Instance UID.
    ended
        Set when there is nothing more to wait for.
    status
        What the peer answered; None when it did not.
    """

    sop: tuple[str, str]
    event_type_id: int
    information: Dataset
    ended: threading.Event = field(default_factory=threading.Event)
    status: int | None = None

    def end(self, status: int | None = None) -> None:
        """Let those who wait for the report go on."""
        self.status = status
        self.ended.set()


class EventReports:
    """Reports that wait to be sent, or for their answer: any thread adds one, the association's does the rest."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[EventReport] = queue.SimpleQueue()
        self._unanswered: dict[int, EventReport] = {}
        self._message_ids = count(1)
        self._ending = threading.Lock()
        self._has_ended = False

    def add(self, report: EventReport) -> bool:
        """Add a report to be sent; False when the association has ended."""
        with self._ending:
            if self._has_ended:
                return False
            self._waiting.put(report)
        return True

    def waiting(self) -> Iterator[EventReport]:
        """Take the reports that wait to be sent."""
        while not self._waiting.empty():
            yield self._waiting.get()

    def expect_answer(self, report: EventReport) -> int:
        """Return the Message ID to send a report under."""
        message_id = next(self._message_ids) % 2**16
        self._unanswered[message_id] = report
        return message_id

    def note_answer(self, message_id: int, status: int) -> None:
        """End the report that was sent under a Message ID; nothing happens where there is none."""
        report = self._unanswered.pop(message_id, None)
        if report is not None:
            report.end(status)

    def end(self) -> None:
        """End all reports, and take none from now on: the association is over."""
        with self._ending:
            self._has_ended = True
        for report in (*self.waiting(), *self._unanswered.values()):
            report.end()
