"""The PACS of the demonstration: Orthanc where it is installed, else pynetdicom's own archive."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from fewshot_node.config import PacsSettings
from fewshot_node.demo.deployment import orthanc_document
from fewshot_node.supervise import ProcessSpec, free_port

_PATHS = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"


@dataclass(frozen=True, slots=True)
class Archive:
    """How to start a PACS and how to reach it; `description` says which one it is."""

    process: ProcessSpec
    settings: PacsSettings
    description: str


def choose_archive(folder: Path) -> Archive:
    """Return the archive to use, with its data under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    binary = shutil.which("Orthanc", path=_PATHS)
    return _orthanc(binary, folder) if binary else _stand_in(folder)


def _orthanc(binary: str, folder: Path) -> Archive:
    settings = PacsSettings(ae_title="ORTHANC", port=free_port())
    http_port = free_port()
    document = orthanc_document(folder, settings, http_port)
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(document, indent=2), encoding="utf-8")
    process = ProcessSpec("pacs", [binary, str(configuration)], log=folder / "orthanc.log")
    return Archive(process, settings, f"Orthanc, http://127.0.0.1:{http_port}")


def _stand_in(folder: Path) -> Archive:
    settings = PacsSettings(ae_title="ARCHIVE", port=free_port())
    command = [sys.executable, "-m", "pynetdicom", "qrscp", "--quiet"]
    command += ["--port", str(settings.port), "--bind-address", settings.host, "-aet", settings.ae_title]
    command += ["--database-location", str(folder / "archive.sqlite")]
    command += ["--instance-location", str(folder / "instances")]
    process = ProcessSpec("pacs", command, log=folder / "archive.log")
    return Archive(process, settings, "pynetdicom's archive stands in: Orthanc is not installed (needs root and apt)")
