"""Where a destination is: from its name in the settings to what carries results there."""

from fewshot_node.config import (
    PACS,
    DicomDestination,
    FolderDestination,
    NodeSettings,
    PacsSettings,
    SenderDestination,
    StowDestination,
)
from fewshot_node.dicom.deliver.carrier import Carrier
from fewshot_node.dicom.deliver.dicom import DicomCarrier
from fewshot_node.dicom.deliver.folder import FolderCarrier
from fewshot_node.dicom.deliver.web import WebCarrier
from fewshot_node.errors import ConfigurationError

_SENDER = "/"
"""Between the name of a destination and the AE title that results go back to."""


def destinations_of(task_name: str, calling_ae_title: str, settings: NodeSettings) -> tuple[str, ...]:
    """Return what the results of a task on a series from this sender are addressed to, each once."""
    delivery = settings.delivery
    return tuple(
        f"{name}{_SENDER}{calling_ae_title}" if _goes_back(name, settings) else name
        for name in delivery.of_task(task_name)
    )


def carrier_to(destination: str, settings: NodeSettings) -> Carrier:
    """Return what carries results to an address of `destinations_of`.

    The settings of now count: a delivery that waits takes a peer's new address.

    Raises
    ------
    ConfigurationError
        The settings do not know the destination any more, or a TLS file of it cannot be used.
    """
    name, _, ae_title = destination.partition(_SENDER)
    found = settings.delivery.destinations.get(name)
    if name == PACS:
        return DicomCarrier(settings.pacs)
    if isinstance(found, DicomDestination):
        return DicomCarrier(found)
    if isinstance(found, SenderDestination):
        return DicomCarrier(_sender(name, ae_title, found, settings))
    if isinstance(found, StowDestination):
        return WebCarrier(name, found)
    if isinstance(found, FolderDestination):
        return FolderCarrier(found.path)
    message = f"destination {name} is not described: add [delivery.destinations.{name}], then retry the series"
    raise ConfigurationError(message)


def _goes_back(name: str, settings: NodeSettings) -> bool:
    return isinstance(settings.delivery.destinations.get(name), SenderDestination)


def _sender(name: str, ae_title: str, found: SenderDestination, settings: NodeSettings) -> PacsSettings:
    address = found.peers.get(ae_title) or settings.commitment.peers.get(ae_title)
    if address is None:
        where = f"delivery.destinations.{name}.peers.{ae_title}"
        raise ConfigurationError(f"sender {ae_title} has no address: add {where}, then retry the series")
    return PacsSettings(
        ae_title=ae_title,
        host=address.host,
        port=address.port,
        calling_ae_title=found.calling_ae_title,
        timeout_s=found.timeout_s,
        commitment=found.commitment,
        tls=found.tls,
    )
