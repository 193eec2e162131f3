"""A published task, the file that it is exported to, and ways to damage such a file."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fewshot_node.config import ExchangeSettings
from fewshot_node.errors import ArchiveError
from fewshot_node.tasks.exchange import export_task, import_task
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import read_template
from fewshot_node.vision.backbone import DenseEncoder
from tests.tasks.conftest import Example

ANYBODY = ExchangeSettings()
Members = dict[str, bytes]


@pytest.fixture(scope="session")
def origin(
    tmp_path_factory: pytest.TempPathFactory,
    definition: TaskDefinition,
    example: Example,
    nifti: Path,
    encoder: DenseEncoder,
) -> Registry:
    """A site that has published a task; nothing in it may be changed."""
    registry = Registry(tmp_path_factory.mktemp("origin") / "tasks")
    registry.add(definition)
    registry.add_template("organs", read_template(example.files, nifti, definition))
    registry.fit("organs", encoder)
    registry.publish("organs")
    return registry


@pytest.fixture(scope="session")
def exported(origin: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "organs.task"
    export_task(origin, "organs", path)
    return path


@pytest.fixture
def site(tmp_path: Path) -> Registry:
    """Another site, with nothing yet."""
    return Registry(tmp_path / "site")


@pytest.fixture
def altered(exported: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the exported file again with its members changed by a function."""

    def write(change: Callable[[Members], object], *, fix_manifest: bool = False) -> Path:
        with zipfile.ZipFile(exported) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        change(members)
        if fix_manifest:
            members["manifest.json"] = _with_true_digests(members)
        path = tmp_path / "altered.task"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return write


def _with_true_digests(members: Members) -> bytes:
    manifest = json.loads(members["manifest.json"])
    manifest["files"] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in members.items()
        if name != "manifest.json"
    }
    return json.dumps(manifest).encode()


def refused_whole(site: Registry, path: Path, message: str, settings: ExchangeSettings = ANYBODY) -> None:
    """The import refuses with a message, and leaves nothing behind."""
    with pytest.raises(ArchiveError, match=message) as refusal:
        import_task(site, path, settings)
    assert ": " in str(refusal.value), "what happened, and then what to do"
    assert not site.root.exists() or list(site.root.iterdir()) == []
