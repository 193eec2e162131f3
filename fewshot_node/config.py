"""The node's settings: one TOML file, read once into frozen models.

Every key is explained in ``deploy/node.example.toml``. Secrets never stand in the file.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from fewshot_node.errors import ConfigurationError

AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]*[!-\[\]-~][ -\[\]-~]*$")]
"""An AE title: 1 to 16 printable characters without backslash, not all spaces (PS3.5 6.2)."""
Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReceiveSettings(_Section):
    """How images come in."""

    ae_title: AETitle = "FEWSHOT"
    host: str = "0.0.0.0"  # noqa: S104  scanners are on the network; `calling_ae_titles` narrows it
    port: Port = 11112
    calling_ae_titles: tuple[AETitle, ...] = ()
    require_called_ae_title: bool = True
    max_associations: Annotated[int, Field(ge=1)] = 20
    quiet_period_s: Annotated[float, Field(gt=0)] = 30.0
    quiet_period_s_by_ae: dict[AETitle, Annotated[float, Field(gt=0)]] = {}
    min_free_mb: Annotated[int, Field(ge=0)] = 1024


class PacsSettings(_Section):
    """Where results go."""

    ae_title: AETitle = "ORTHANC"
    host: str = "127.0.0.1"
    port: Port = 4242
    calling_ae_title: AETitle = "FEWSHOT"
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    attempts: Annotated[int, Field(ge=1)] = 5
    backoff_s: Annotated[float, Field(gt=0)] = 2.0


class PrefectSettings(_Section):
    """Which Prefect server shows and queues the work."""

    api_url: str = "http://127.0.0.1:4200/api"
    start_server: bool = True
    poll_s: Annotated[float, Field(gt=0)] = 1.0
    stalled_after_s: Annotated[float, Field(gt=0)] = 60.0


class WorkerSettings(_Section):
    """How series are computed."""

    concurrency: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] | None = None
    lease_s: Annotated[float, Field(gt=0)] = 30.0
    max_attempts: Annotated[int, Field(ge=1)] = 3
    encoder: str = "embedded"
    sam: str | None = None
    offline: bool = True


class NodeSettings(_Section):
    """Every setting of a node; `home` holds the spool, the ledger, the tasks and the outbox."""

    home: Path = Path("fewshot-home")
    receive: ReceiveSettings = ReceiveSettings()
    pacs: PacsSettings = PacsSettings()
    prefect: PrefectSettings = PrefectSettings()
    worker: WorkerSettings = WorkerSettings()

    @property
    def spool(self) -> Path:
        """Folder of received instances."""
        return self.home / "spool"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return f"sqlite:///{self.home / 'ledger.sqlite'}"

    @property
    def tasks(self) -> Path:
        """Folder of the task registry."""
        return self.home / "tasks"

    @property
    def outbox(self) -> Path:
        """Folder of result objects on their way out."""
        return self.home / "outbox"


def load_settings(path: Path | None) -> NodeSettings:
    """Read settings from a TOML file; None gives the defaults.

    A relative `home` is taken from the file's own folder.

    Raises
    ------
    ConfigurationError
        The file is absent, no TOML, or has an unknown or unacceptable key; the message names it.
    """
    if path is None:
        return NodeSettings()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"settings file {path} cannot be read ({error.strerror}): check the path"
        raise ConfigurationError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"settings file {path} is no TOML: {error}") from error
    settings = parse_settings(data, source=str(path))
    if settings.home.is_absolute():
        return settings
    return settings.model_copy(update={"home": (path.parent / settings.home).resolve()})


def parse_settings(data: dict[str, Any], source: str) -> NodeSettings:
    """Turn a parsed document into settings; `source` names it in the error."""
    try:
        return NodeSettings.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(detail) for detail in error.errors())
        raise ConfigurationError(f"{source}: {problems}") from error


def _explain(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] != "extra_forbidden":
        return f"{key}: {detail['msg']}"
    section: Any = NodeSettings
    for part in detail["loc"][:-1]:
        section = section.model_fields[str(part)].annotation
    close = difflib.get_close_matches(str(detail["loc"][-1]), section.model_fields, n=1)
    hint = f"did you mean {close[0]}?" if close else "known keys: " + ", ".join(section.model_fields)
    return f"unknown key {key}; {hint}"
