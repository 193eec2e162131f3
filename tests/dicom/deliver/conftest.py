"""A node's ledger and outbox with small results in it, ready to be delivered."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fewshot_node.config import NodeSettings
from fewshot_node.dicom.ledger import Ledger
from tests.dicom.deliver.office import Clock, Office


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def office(tmp_path: Path, clock: Clock, make_instance: Any) -> Iterator[Office]:
    """An office whose clock the test moves."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'office.sqlite'}", clock)
    yield Office(tmp_path, ledger, make_instance, NodeSettings(home=tmp_path))
    ledger.dispose()


@pytest.fixture
def running_office(tmp_path: Path, make_instance: Any) -> Iterator[Office]:
    """An office on the real clock, for couriers."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'office.sqlite'}")
    yield Office(tmp_path, ledger, make_instance, NodeSettings(home=tmp_path))
    ledger.dispose()
