"""Whether the receiver can take images: it listens, the spool takes files, the ledger answers."""

import tempfile
import time
from collections.abc import Callable, Mapping

from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.monitor.probe import PATIENCE_S, Probe
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import ConfigurationError, RetryableError

Check = Callable[[], str | None]
"""Says what is wrong, without paths and UIDs; None when nothing is."""

OK = "ok"
_MEGABYTE = 2**20
_TRIAL_BYTES = 4096


class Health:
    """Checks by name, made together and with one patience for all of them."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._probes = {name: Probe(check) for name, check in checks.items()}

    def report(self) -> dict[str, str]:
        """Return for each check `OK` or what is wrong."""
        end = time.monotonic() + PATIENCE_S
        for probe in self._probes.values():
            probe.start()
        return {name: _result(probe, end) for name, probe in self._probes.items()}


def intake_checks(is_listening: Callable[[], bool], spool: Spool, ledger: Ledger, min_free_mb: int) -> dict[str, Check]:
    """Return the checks of a receiver.

    Parameters
    ----------
    min_free_mb
        With less room in the spool instances are refused.
    """
    return {
        "receiver": lambda: None if is_listening() else "does not listen",
        "spool": lambda: _check_spool(spool, min_free_mb),
        "ledger": lambda: _check_ledger(ledger),
    }


def _result(probe: Probe[str | None], end: float) -> str:
    try:
        return probe.answer(max(0.0, end - time.monotonic())) or OK
    except TimeoutError:
        return f"no answer within {PATIENCE_S:g} s"
    except Exception as error:  # noqa: BLE001  who asks needs an answer; the text could quote a path
        return f"failed ({type(error).__name__})"


def _check_spool(spool: Spool, min_free_mb: int) -> str | None:
    if spool.free_bytes() < min_free_mb * _MEGABYTE:
        return "less space is free than min_free_mb"
    try:
        with tempfile.TemporaryFile(dir=spool.root) as trial:  # without a name: nothing stays after a crash
            trial.write(bytes(_TRIAL_BYTES))
            trial.flush()
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return None


def _check_ledger(ledger: Ledger) -> str | None:
    try:
        ledger.oldest_open()
    except RetryableError:
        return "busy or out of reach"
    except ConfigurationError:
        return "cannot be used"
    return None
