"""A node's ledger and outbox, without a worker."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from fewshot_node.config import NodeSettings
from fewshot_node.dicom.deliver.parcels import pack, result_folder
from fewshot_node.dicom.ledger import Ledger, SeriesNote, SeriesState, TaskOutcome
from fewshot_node.records import SeriesKey

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
TASK = "liver"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


@dataclass
class Office:
    """The ledger and the outbox of a node, without a worker."""

    home: Path
    ledger: Ledger
    make_instance: Callable[..., Dataset]
    settings: NodeSettings

    def configure(self, **sections: Any) -> NodeSettings:
        """Take other settings: those of a node that was started again with another file."""
        data = {**self.settings.model_dump(), **sections}
        self.settings = NodeSettings.model_validate(data)
        return self.settings

    def post(self, series: str = "1.2.77", objects: int = 2, to: tuple[str, ...] = ("pacs",)) -> SeriesKey:
        """Put results of one series into the outbox and its parcels into the ledger."""
        self.ledger.note_instances([SeriesNote.of_one(series, "1.1", "SCANNER", 100, NOON)])
        key = self.ledger.close(series)
        assert key is not None
        folder = result_folder(self.settings.outbox, key, TASK)
        folder.mkdir(parents=True)
        for number in range(objects):
            dataset = self.make_instance(number + 1, f"{series}.9", StudyInstanceUID=f"{series}.1")
            dataset.save_as(folder / ("report.dcm" if number == 0 else f"a{number}.dcm"), enforce_file_format=True)
        assert self.ledger.mark_dispatched(key, 1, "run")
        assert self.ledger.claim(key, 1, "worker", 30)
        outcomes = [TaskOutcome(TASK, 1, SeriesState.DELIVERING)]
        parcels = pack(self.settings.outbox, key, TASK, to)
        assert self.ledger.finish(key, "worker", SeriesState.DELIVERING, "", outcomes, parcels)
        return key

    def files(self, key: SeriesKey) -> tuple[Path, ...]:
        return tuple(sorted(result_folder(self.settings.outbox, key, TASK).iterdir()))
