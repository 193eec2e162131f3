"""The node's settings: one TOML file, read once into frozen models.

Every key is explained in ``deploy/node.example.toml``. Secrets never stand in the file.
"""

import difflib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, IPvAnyNetwork, ValidationError, model_validator
from pydantic_core import ErrorDetails

from fewshot_node.errors import ConfigurationError

AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]*[!-\[\]-~][ -\[\]-~]*$")]
"""An AE title: 1 to 16 printable characters without backslash, not all spaces (PS3.5 6.2)."""
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Uid = Annotated[str, Field(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)*$")]
StatedCount = Literal["NumberOfSeriesRelatedInstances", "ImagesInAcquisition", "InConcatenationTotalNumber"]
"""Attributes by which a sender may state how many instances a series has."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


SectionT = TypeVar("SectionT", bound=_Section)


class TlsSettings(_Section):
    """The key and certificates of a receiver that speaks TLS only (PS3.15 B.12, BCP 195)."""

    certificate: Path
    key: Path
    client_authority: Path
    """Certificates of the authorities whose clients may connect."""


class ReceiveSettings(_Section):
    """How images come in."""

    ae_title: AETitle = "FEWSHOT"
    host: str = "0.0.0.0"  # noqa: S104  scanners are on the network; the lists below narrow it
    port: Port = 11112
    calling_ae_titles: tuple[AETitle, ...] = ()
    source_addresses: tuple[IPvAnyNetwork, ...] = ()
    require_called_ae_title: bool = True
    max_associations: Annotated[int, Field(ge=1)] = 20
    max_associations_per_peer: Annotated[int, Field(ge=1)] = 10
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=2**20)] = 131072
    request_timeout_s: Seconds = 30.0
    network_timeout_s: Seconds = 60.0
    extra_sop_classes: tuple[Uid, ...] = ()
    quiet_period_s: Seconds = 30.0
    quiet_period_s_by_ae: dict[AETitle, Seconds] = {}
    stated_counts: tuple[StatedCount, ...] = ("NumberOfSeriesRelatedInstances",)
    ask_pacs_for_count: bool = False
    min_free_mb: Annotated[int, Field(ge=0)] = 1024
    reject_below_free_mb: Annotated[int, Field(ge=0)] = 2048
    tls: TlsSettings | None = None

    @model_validator(mode="after")
    def _marks_in_order(self) -> "ReceiveSettings":
        if self.reject_below_free_mb < self.min_free_mb:
            raise ValueError("reject_below_free_mb must not be less than min_free_mb")
        return self


class PeerAddress(_Section):
    """Where a peer listens."""

    host: str
    port: Port


class CommitmentSettings(_Section):
    """How storage commitment results reach those who asked for them."""

    retry_s: Seconds = 60.0
    give_up_after_h: Annotated[float, Field(gt=0)] = 24.0
    peers: dict[AETitle, PeerAddress] = {}


class RetentionSettings(_Section):
    """How long received instances stay in the spool once their series has ended; None keeps them."""

    delivered_days: Annotated[float, Field(ge=0)] | None = None
    no_task_days: Annotated[float, Field(ge=0)] | None = None
    every_s: Seconds = 600.0


class MonitorSettings(_Section):
    """Where ``/healthz`` and ``/metrics`` are served; without a port they are not."""

    host: str = "127.0.0.1"
    port: Port | None = None


class PullSettings(_Section):
    """How series are fetched from the PACS."""

    by: Literal["move", "get"] = "move"
    series_per_minute: Annotated[float, Field(gt=0)] = 30.0
    max_unfinished: Annotated[int, Field(ge=1)] = 20


class ClientTlsSettings(_Section):
    """What this node shows and believes when it connects to a peer by TLS (PS3.15 B.12, BCP 195)."""

    authority: Path
    """Certificates of the authorities that sign for the peer."""
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> "ClientTlsSettings":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both, or neither")
        return self


class PacsSettings(_Section):
    """A DICOM peer: where results go, and where series are fetched from."""

    ae_title: AETitle = "ORTHANC"
    host: str = "127.0.0.1"
    port: Port = 4242
    calling_ae_title: AETitle = "FEWSHOT"
    timeout_s: Seconds = 30.0
    backoff_s: Seconds = 2.0
    commitment: bool = True
    tls: ClientTlsSettings | None = None


class DicomDestination(PacsSettings):
    """Results go to another DICOM peer, by C-STORE."""

    kind: Literal["dicom"]


class SenderDestination(_Section):
    """Results go back, by C-STORE, to the AE title that sent the series."""

    kind: Literal["sender"]
    peers: dict[AETitle, PeerAddress] = {}
    calling_ae_title: AETitle = "FEWSHOT"
    timeout_s: Seconds = 30.0
    commitment: bool = True
    tls: ClientTlsSettings | None = None


class StowDestination(_Section):
    """Results go to a DICOMweb server, by STOW-RS; a password or token stands in the environment."""

    kind: Literal["stow"]
    url: HttpUrl
    timeout_s: Seconds = 30.0
    user: str | None = None
    tls: ClientTlsSettings | None = None


class FolderDestination(_Section):
    """Results go to a folder: a share, or what another program watches."""

    kind: Literal["folder"]
    path: Path


Destination = Annotated[
    DicomDestination | SenderDestination | StowDestination | FolderDestination, Field(discriminator="kind")
]
DestinationName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
PACS = "pacs"
"""Name of the destination that the section `pacs` describes."""


class DeliverySettings(_Section):
    """Where results go, and how long a delivery is tried."""

    to: Annotated[tuple[DestinationName, ...], Field(min_length=1)] = (PACS,)
    tasks: dict[str, Annotated[tuple[DestinationName, ...], Field(min_length=1)]] = {}
    destinations: dict[DestinationName, Destination] = {}
    attempts: Annotated[int, Field(ge=1)] = 8
    give_up_after_h: Annotated[float, Field(gt=0)] = 72.0
    backoff_s: Seconds = 2.0
    longest_wait_s: Seconds = 300.0
    commitment_wait_s: Seconds = 60.0
    lease_s: Seconds = 30.0
    poll_s: Seconds = 1.0
    keep_days: Annotated[float, Field(ge=0)] | None = None
    keep_rejected_days: Annotated[float, Field(ge=0)] = 30.0
    keep_rejected: Annotated[int, Field(ge=0)] = 100

    @model_validator(mode="after")
    def _known_names(self) -> "DeliverySettings":
        if PACS in self.destinations:
            raise ValueError(f"the name {PACS} belongs to the section [pacs]: choose another for the destination")
        for name in {*self.to, *(name for names in self.tasks.values() for name in names)}:
            if name != PACS and name not in self.destinations:
                raise ValueError(f"destination {name} is not described: add [delivery.destinations.{name}]")
        return self

    def of_task(self, task_name: str) -> tuple[str, ...]:
        """Return the names of the destinations that a task's results go to, each once."""
        return tuple(dict.fromkeys(self.tasks.get(task_name, self.to)))


class ExchangeSettings(_Section):
    """Whose exported tasks are taken."""

    trusted_keys: tuple[Path, ...] = ()
    """Public keys (PEM, Ed25519); a file that is signed with another one is refused."""
    require_signature: bool = False
    max_mb: Annotated[int, Field(ge=1, le=4000)] = 2000

    @model_validator(mode="after")
    def _keys_to_require(self) -> "ExchangeSettings":
        if self.require_signature and not self.trusted_keys:
            raise ValueError("require_signature needs trusted_keys: anybody can sign with a key of their own")
        return self


class PublishSettings(_Section):
    """What a task must have shown before it may send results."""

    minimum_score: Annotated[float, Field(ge=0, le=1)] | None = None
    """Crossvalidated IoU, or accuracy at 10 px of landmarks; a revision in shadow needs none."""


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
    feature_cache_mb: Annotated[int, Field(ge=0)] = 2048


class NodeSettings(_Section):
    """Every setting of a node; `home` holds the spool, the ledger, the tasks and the outbox."""

    home: Path = Path("fewshot-home")
    receive: ReceiveSettings = ReceiveSettings()
    commitment: CommitmentSettings = CommitmentSettings()
    retention: RetentionSettings = RetentionSettings()
    monitor: MonitorSettings = MonitorSettings()
    pull: PullSettings = PullSettings()
    pacs: PacsSettings = PacsSettings()
    delivery: DeliverySettings = DeliverySettings()
    exchange: ExchangeSettings = ExchangeSettings()
    publish: PublishSettings = PublishSettings()
    prefect: PrefectSettings = PrefectSettings()
    worker: WorkerSettings = WorkerSettings()

    @property
    def spool(self) -> Path:
        """Folder of received instances."""
        return self.home / "spool"

    @property
    def commitments(self) -> Path:
        """Folder of storage commitment requests whose results are owed."""
        return self.home / "commitments"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return f"sqlite:///{self.home / 'ledger.sqlite'}"

    @property
    def tasks(self) -> Path:
        """Folder of the task registry."""
        return self.home / "tasks"

    @property
    def features(self) -> Path:
        """Folder of templates' features, kept by content; it may be emptied at any time."""
        return self.home / "features"

    @property
    def outbox(self) -> Path:
        """Folder of result objects on their way out."""
        return self.home / "outbox"

    @property
    def shadow(self) -> Path:
        """Folder of the result objects of shadow revisions, which are not sent."""
        return self.home / "shadow"


def load_settings(path: Path | None) -> NodeSettings:
    """Read settings from a TOML file; None gives the defaults.

    Relative paths are taken from the file's own folder.

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
    return _from_folder(parse_settings(data, source=str(path)), path.parent)


def _from_folder(section: SectionT, folder: Path) -> SectionT:
    """Take relative paths from the folder of the settings file."""
    return section.model_copy(update={name: _placed(value, folder) for name, value in section})


def _placed(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return (folder / value).resolve()
    if isinstance(value, tuple):
        return tuple(_placed(inner, folder) for inner in value)
    if isinstance(value, dict):
        return {key: _placed(inner, folder) for key, inner in value.items()}
    return _from_folder(value, folder) if isinstance(value, _Section) else value


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
    known = _keys_beside(detail["loc"])
    close = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else "known keys: " + ", ".join(known)
    return f"unknown key {key}; {hint}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section that an unknown key stands in."""
    section: type[BaseModel] = NodeSettings
    choices = [section]
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        if field is not None:  # else the name of one of several like sections, or its kind
            choices = list(_sections(field.annotation))
            section = choices[0]
        section = next((one for one in choices if part in _kinds(one)), section)
    return list(section.model_fields)


def _kinds(section: type[BaseModel]) -> tuple[Any, ...]:
    """Return what the key `kind` may be in a section; nothing where there is no such key."""
    field = section.model_fields.get("kind")
    return () if field is None else get_args(field.annotation)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Give the sections that an annotation names, `Section | None` and `dict[..., Section]` included."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)
