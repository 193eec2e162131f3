"""What ``deploy/`` holds, found and filled in: the demonstration runs on the files that a site starts from."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewshot_node.config import NodeSettings, PacsSettings, load_settings
from fewshot_node.errors import ConfigurationError

DEPLOY_FOLDERS = (Path(__file__).parents[1] / "deploy", Path(__file__).parents[2] / "deploy")
"""Where ``deploy/`` lies in an installed package and in a checkout."""

Section = Mapping[str, str | int | float | bool | list[str]]


def deploy_file(name: str) -> Path:
    """Return a file of ``deploy/``, which the package and the checkout carry in different places.

    Raises
    ------
    ConfigurationError
        Neither has it.
    """
    for folder in DEPLOY_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    places = " or ".join(str(folder) for folder in DEPLOY_FOLDERS)
    raise ConfigurationError(f"file {name} is not in {places}: install fewshot-node again, from its wheel or checkout")


def orthanc_document(folder: Path, settings: PacsSettings, http_port: int) -> dict[str, Any]:
    """Return ``orthanc.json`` for an Orthanc with its data under `folder`, reached by `settings`."""
    document: dict[str, Any] = json.loads(deploy_file("orthanc.json").read_text(encoding="utf-8"))
    return document | {
        "DicomAet": settings.ae_title,
        "DicomPort": settings.port,
        "HttpPort": http_port,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
    }


def write_node_settings(path: Path, changes: Mapping[str, Section]) -> NodeSettings:
    """Write ``node.demo.toml`` with other values to `path`, and return it as the node reads it.

    Parameters
    ----------
    changes
        Section -> key -> value, for example ``{"receive": {"port": 11113}}``.

    Raises
    ------
    ConfigurationError
        A key is unknown, or a value unacceptable; the message names it.
    """
    document = tomllib.loads(deploy_file("node.demo.toml").read_text(encoding="utf-8"))
    for section, values in changes.items():
        document[section] = {**document.get(section, {}), **values}
    path.write_text(_as_toml(document), encoding="utf-8")
    return load_settings(path)


def _as_toml(document: Mapping[str, Any]) -> str:
    """Write plain values and one level of sections; what JSON writes of these is TOML too."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in document.items() if not isinstance(value, dict)]
    for section, values in document.items():
        if isinstance(values, dict):
            lines += ["", f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"
