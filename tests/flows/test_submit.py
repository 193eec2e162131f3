"""Submitting to Prefect: idempotent, patient, and never losing a series."""

import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fewshot_node.config import NodeSettings, PrefectSettings
from fewshot_node.dicom.ledger import Ledger, SeriesNote, SeriesState, ShadowOutcome, ShadowState
from fewshot_node.records import SeriesKey
from flows.environment import prefect_environment, server_address

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_ui_is_told_its_own_address_and_no_telemetry_leaves() -> None:
    settings = NodeSettings(prefect=PrefectSettings(api_url="http://127.0.0.1:5555/api"))
    environment = prefect_environment(settings)
    assert environment["PREFECT_SERVER_UI_API_URL"] == "http://127.0.0.1:5555/api"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["DO_NOT_TRACK"] == "1"
    assert server_address(settings) == ("127.0.0.1", 5555)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", clock=lambda: NOW)
    ledger.note_instances([SeriesNote.of_one("1.2.3", "1.2", "CT1", 10, NOW)])
    assert ledger.close("1.2.3") == SeriesKey("1.2.3", 1)
    return ledger


def left_in_a_shadow(ledger: Ledger) -> SeriesKey:
    """Leave what a worker leaves that is killed in a shadow."""
    ledger.note_instances([SeriesNote.of_one("1.2.4", "1.2", "CT1", 10, NOW)])
    key = ledger.close("1.2.4")
    assert key is not None
    assert ledger.claim(key, 1, "worker", 30)
    begun = ShadowOutcome("liver", 2, ShadowState.RUNNING)
    assert ledger.finish(key, "worker", SeriesState.NO_TASK, "", [begun])
    return key


def test_a_silent_server_loses_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a process of its own: Prefect reads its settings once, at import."""
    in_shadow = left_in_a_shadow(ledger)
    script = textwrap.dedent(
        f"""
        import os
        from fewshot_node.config import NodeSettings, PrefectSettings
        from fewshot_node.dicom.ledger import Ledger
        from fewshot_node.errors import OrchestratorError
        from flows.environment import use_prefect
        from datetime import UTC, datetime
        settings = NodeSettings(home={str(tmp_path)!r}, prefect=PrefectSettings(api_url="http://127.0.0.1:1/api"))
        use_prefect(settings, None)
        from flows.submit import Dispatcher
        import sys
        assert "torch" not in sys.modules, "the dispatcher needs no torch"
        try:
            Dispatcher(Ledger({f"sqlite:///{tmp_path / 'ledger.sqlite'}"!r}), settings).dispatch_once(datetime.now(UTC))
        except OrchestratorError as error:
            print(error)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "http://127.0.0.1:1/api does not answer" in done.stdout, done.stderr
    entry = ledger.get("1.2.3")
    assert entry is not None
    assert (entry.state, entry.attempt) == (SeriesState.COMPLETE, 1)
    ended = ledger.entry(in_shadow)
    assert ended is not None
    assert [one.state for one in ended.shadows] == [ShadowState.FAILED], "its worker died long ago"
    assert "died in the shadow of liver" in done.stderr
