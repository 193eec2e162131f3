"""The processes of the demonstration, on free loopback ports, in a folder of their own."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from fewshot_node.config import NodeSettings, PacsSettings, load_settings
from fewshot_node.demo.archive import Archive, choose_archive
from fewshot_node.dicom.send import echo
from fewshot_node.errors import RetryableError
from fewshot_node.supervise import ProcessSpec, Supervisor, free_port

_START_S = 90.0

_SETTINGS = """\
home = "home"

[receive]
ae_title = "FEWSHOT"
host = "127.0.0.1"
port = {receive_port}
calling_ae_titles = ["SCANNER"]
quiet_period_s = 2.0

[pacs]
ae_title = "{pacs_ae_title}"
host = "127.0.0.1"
port = {pacs_port}
calling_ae_title = "FEWSHOT"

[prefect]
api_url = "http://127.0.0.1:{prefect_port}/api"
poll_s = 0.5

[worker]
threads = 2
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A running PACS and node."""

    folder: Path
    config: Path
    settings: NodeSettings
    archive: Archive

    @property
    def scanner(self) -> PacsSettings:
        """How a scanner reaches the node: the node seen as a C-STORE peer."""
        receive = self.settings.receive
        return PacsSettings(ae_title=receive.ae_title, host="127.0.0.1", port=receive.port, calling_ae_title="SCANNER")


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Start everything, and leave no process and no port behind, however the block ends."""
    archive = choose_archive(folder / "pacs")
    config = folder / "node.toml"
    config.write_text(
        _SETTINGS.format(
            receive_port=free_port(),
            prefect_port=free_port(),
            pacs_ae_title=archive.settings.ae_title,
            pacs_port=archive.settings.port,
        ),
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "fewshot_node", "--config", str(config), "serve"]
    node = ProcessSpec("node", command, log=folder / "node.log")
    with Supervisor([archive.process, node]):
        yield Site(folder, config, load_settings(config), archive)


def wait_until_up(site: Site) -> None:
    """Return when PACS, receiver and Prefect answer.

    Raises
    ------
    RetryableError
        One of them does not answer in time; the message names its log.
    """
    pacs = site.archive.settings
    _wait("the PACS", site.folder / "pacs", lambda: echo(pacs))
    _wait("the receiver", site.folder / "node.log", lambda: echo(site.scanner))
    _wait("Prefect", site.folder / "node.log", lambda: _prefect_health(site.settings.prefect.api_url))


def _prefect_health(api_url: str) -> None:
    try:
        httpx.get(f"{api_url}/health", timeout=5.0).raise_for_status()
    except httpx.HTTPError as error:
        raise RetryableError(f"Prefect at {api_url} does not answer") from error


def _wait(name: str, log: Path, probe: Callable[[], None]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            return probe()
        except RetryableError as error:
            if time.monotonic() > deadline:
                raise RetryableError(f"{name} did not start within {_START_S:g} s: see {log}") from error
        time.sleep(0.2)
