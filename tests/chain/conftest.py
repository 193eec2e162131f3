"""A whole node beside a real Orthanc and a real Prefect server, for the tests of the chain."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from orthanc_api_client import OrthancApiClient

from fewshot_node.config import PacsSettings, WorkerSettings
from fewshot_node.demo.cases import Lesson, phantom_lessons
from fewshot_node.demo.teach import teach
from fewshot_node.models import Models, load_models
from fewshot_node.supervise import answers
from fewshot_node.tasks.registry import Registry
from tests.chain.running_node import RunningNode, wait_for, write_settings


@pytest.fixture(scope="session")
def models() -> Models:
    return load_models(WorkerSettings())


@pytest.fixture(scope="session")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lesson, Lesson]:
    return phantom_lessons(tmp_path_factory.mktemp("phantoms"), salt="tests")


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, lessons: tuple[Lesson, Lesson], models: Models) -> Path:
    """A registry folder with both lessons' tasks published."""
    folder = tmp_path_factory.mktemp("taught") / "tasks"
    for lesson in lessons:
        teach(lesson, Registry(folder), models)
    return folder


@pytest.fixture(scope="session")
def node(
    tmp_path_factory: pytest.TempPathFactory,
    orthanc: Any,
    require_tool: Callable[[str], str],
    free_port: Callable[[], int],
    taught: Path,
) -> Iterator[RunningNode]:
    """A running node; it ends with the session and leaves no process behind."""
    folder = tmp_path_factory.mktemp("node")
    config = folder / "node.toml"
    pacs = PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port)
    settings = write_settings(config, pacs, free_port(), free_port())
    shutil.copytree(taught, settings.tasks)
    command = [sys.executable, "-m", "fewshot_node", "--config", str(config), "serve"]
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    running = RunningNode(folder, settings, OrthancApiClient(orthanc.url), require_tool("storescu"), process)
    wait_for(
        lambda: answers(f"{settings.prefect.api_url}/health") and "models loaded" in running.log, "the node to start"
    )
    yield running
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    process.wait(30)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, f"left behind: {alive}"
