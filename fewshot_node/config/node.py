"""Settings of what the node does, and all of them together."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, IPvAnyNetwork, model_validator

from fewshot_node.config.delivery import DeliverySettings, PacsSettings
from fewshot_node.config.section import AETitle, PeerAddress, Port, Seconds, Section, Uid

StatedCount = Literal["NumberOfSeriesRelatedInstances", "ImagesInAcquisition", "InConcatenationTotalNumber"]
"""Attributes by which a sender may state how many instances a series has."""


class TlsSettings(Section):
    """The key and certificates of a receiver that speaks TLS only (PS3.15 B.12, BCP 195)."""

    certificate: Path
    key: Path
    client_authority: Path
    """Certificates of the authorities whose clients may connect."""


class ReceiveSettings(Section):
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


class CommitmentSettings(Section):
    """How storage commitment results reach those who asked for them."""

    retry_s: Seconds = 60.0
    give_up_after_h: Annotated[float, Field(gt=0)] = 24.0
    peers: dict[AETitle, PeerAddress] = {}


class RetentionSettings(Section):
    """How long received instances stay in the spool once their series has ended; None keeps them."""

    delivered_days: Annotated[float, Field(ge=0)] | None = None
    no_task_days: Annotated[float, Field(ge=0)] | None = None
    every_s: Seconds = 600.0


class MonitorSettings(Section):
    """Where ``/healthz`` and ``/metrics`` are served; without a port they are not."""

    host: str = "127.0.0.1"
    port: Port | None = None


class PullSettings(Section):
    """How series are fetched from the PACS."""

    by: Literal["move", "get"] = "move"
    series_per_minute: Annotated[float, Field(gt=0)] = 30.0
    max_unfinished: Annotated[int, Field(ge=1)] = 20


class ExchangeSettings(Section):
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


class PublishSettings(Section):
    """What a task must have shown before it may send results."""

    minimum_score: Annotated[float, Field(ge=0, le=1)] | None = None
    """Crossvalidated IoU, or accuracy at 10 px of landmarks; a revision in shadow needs none."""


class PrefectSettings(Section):
    """Which Prefect server shows and queues the work."""

    api_url: str = "http://127.0.0.1:4200/api"
    start_server: bool = True
    poll_s: Annotated[float, Field(gt=0)] = 1.0
    stalled_after_s: Annotated[float, Field(gt=0)] = 60.0


class WorkerSettings(Section):
    """How series are computed."""

    concurrency: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] | None = None
    lease_s: Annotated[float, Field(gt=0)] = 30.0
    max_attempts: Annotated[int, Field(ge=1)] = 3
    encoder: str = "embedded"
    sam: str | None = None
    offline: bool = True
    feature_cache_mb: Annotated[int, Field(ge=0)] = 2048


class NodeSettings(Section):
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
