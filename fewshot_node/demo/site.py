"""The processes of the demonstration, on free loopback ports, in a folder of their own."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fewshot_node.config import NodeSettings, PacsSettings
from fewshot_node.demo.archive import Archive, choose_archive
from fewshot_node.demo.deployment import write_node_settings
from fewshot_node.dicom.send import echo
from fewshot_node.errors import OrchestratorError, RetryableError
from fewshot_node.supervise import ProcessSpec, Supervisor, answers, free_port

_START_S = 90.0


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
    settings = write_node_settings(
        config,
        {
            "receive": {"port": free_port()},
            "pacs": {"ae_title": archive.settings.ae_title, "port": archive.settings.port},
            "prefect": {"api_url": f"http://127.0.0.1:{free_port()}/api"},
        },
    )
    command = [sys.executable, "-m", "fewshot_node", "--config", str(config), "serve"]
    node = ProcessSpec("node", command, log=folder / "node.log")
    with Supervisor([archive.process, node]):
        yield Site(folder, config, settings, archive)


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
    _wait("Prefect", site.folder / "node.log", lambda: _ask_prefect(site.settings.prefect.api_url))


def _ask_prefect(api_url: str) -> None:
    if not answers(f"{api_url}/health"):
        raise OrchestratorError(f"Prefect at {api_url} does not answer")


def _wait(name: str, log: Path, probe: Callable[[], None]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            return probe()
        except RetryableError as error:
            if time.monotonic() > deadline:
                raise RetryableError(f"{name} did not start within {_START_S:g} s: see {log}") from error
        time.sleep(0.2)
