"""Settings of where results go."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, model_validator

from fewshot_node.config.section import AETitle, PeerAddress, Port, Seconds, Section


class ClientTlsSettings(Section):
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


class PacsSettings(Section):
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


class SenderDestination(Section):
    """Results go back, by C-STORE, to the AE title that sent the series."""

    kind: Literal["sender"]
    peers: dict[AETitle, PeerAddress] = {}
    calling_ae_title: AETitle = "FEWSHOT"
    timeout_s: Seconds = 30.0
    commitment: bool = True
    tls: ClientTlsSettings | None = None


class StowDestination(Section):
    """Results go to a DICOMweb server, by STOW-RS; a password or token stands in the environment."""

    kind: Literal["stow"]
    url: HttpUrl
    timeout_s: Seconds = 30.0
    user: str | None = None
    tls: ClientTlsSettings | None = None


class FolderDestination(Section):
    """Results go to a folder: a share, or what another program watches."""

    kind: Literal["folder"]
    path: Path


Destination = Annotated[
    DicomDestination | SenderDestination | StowDestination | FolderDestination, Field(discriminator="kind")
]
DestinationName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
PACS = "pacs"
"""Name of the destination that the section `pacs` describes."""


class DeliverySettings(Section):
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
