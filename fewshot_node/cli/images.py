"""Where the images of a template come from: a folder, the spool, or the PACS."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from fewshot_node.cli.folder import series_from_folder
from fewshot_node.config import NodeSettings, StowDestination
from fewshot_node.dicom.objects.headers import holds_images
from fewshot_node.errors import ConfigurationError, RefusedError, SeriesError

if TYPE_CHECKING:
    from fewshot_node.dicom.query import RemoteSeries

_NO_IMAGES = {"SEG", "RTSTRUCT", "SR", "PR", "KO", "RTDOSE", "RTPLAN", "REG", "DOC"}


@dataclass(frozen=True, slots=True)
class WantedImages:
    """One series, as the command line names it.

    Attributes
    ----------
    via
        How it is fetched from the PACS: ``move``, ``get``, or the name of a DICOMweb destination.
    """

    folder: Path | None = None
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    via: str = ""


@dataclass(frozen=True, slots=True)
class FoundImages:
    """Files of one series, and how they came."""

    files: tuple[Path, ...]
    how: str


@contextmanager
def images(wanted: WantedImages, settings: NodeSettings) -> Iterator[FoundImages]:
    """Give the files of a series; what was fetched for this alone is removed at the end.

    Raises
    ------
    ConfigurationError
        None or several places are named.
    SeriesError
        There is no such series.
    PeerUnavailableError, DeliveryError, RefusedError
        The PACS, or our own receiver, does not do its part.
    """
    if wanted.folder is not None:
        if wanted.study_instance_uid:
            raise ConfigurationError("--series and --study are two places: give one")
        yield FoundImages(_in_folder(wanted.folder, wanted.series_instance_uid), "a folder")
    elif wanted.study_instance_uid:
        with TemporaryDirectory(prefix="template-") as folder:
            yield _from_pacs(wanted, settings, Path(folder))
    elif wanted.series_instance_uid:
        yield FoundImages(_spooled(wanted.series_instance_uid, settings), "the spool")
    else:
        raise ConfigurationError(
            "no images: give a folder (--series DIR), a series that the node has received (--series-uid UID), "
            "or a study of the PACS (--study UID)"
        )


def _in_folder(folder: Path, series_instance_uid: str) -> tuple[Path, ...]:
    if not series_instance_uid:
        return series_from_folder(folder).files
    from fewshot_node.dicom.objects.headers import series_in_folder

    found = series_in_folder(folder)
    if series_instance_uid not in found:
        listed = ", ".join(sorted(found)) or "no image series"
        raise SeriesError(f"{folder} does not hold series {series_instance_uid}: it holds {listed}")
    return found[series_instance_uid]


def _spooled(series_instance_uid: str, settings: NodeSettings) -> tuple[Path, ...]:
    from fewshot_node.node import open_node

    files = open_node(settings).spool.series_files(series_instance_uid)
    if not files:
        raise SeriesError(
            f"series {series_instance_uid} is not in the spool {settings.spool}: see `fewshot-node series list`, or "
            "fetch it from the PACS with --study UID"
        )
    if not holds_images(files):
        raise SeriesError(f"series {series_instance_uid} holds no images: give the series that was annotated")
    return files


def _from_pacs(wanted: WantedImages, settings: NodeSettings, folder: Path) -> FoundImages:
    via = wanted.via or settings.pull.by
    if via == "move":
        return FoundImages(_moved(wanted, settings), "the PACS (C-MOVE)")
    if via == "get":
        return FoundImages(_got(wanted, settings, folder), "the PACS (C-GET)")
    return FoundImages(_from_web(wanted, via, settings, folder), f"the DICOMweb server {via}")


def _moved(wanted: WantedImages, settings: NodeSettings) -> tuple[Path, ...]:
    """Let the PACS send the series to our own receiver, as `pull` does."""
    from fewshot_node.cli.pull_view import pull_view
    from fewshot_node.dicom.pull.plan import Wanted, plan_pull
    from fewshot_node.dicom.pull.pull import Pull, require_receiver
    from fewshot_node.node import open_node

    moving = settings.model_copy(update={"pull": settings.pull.model_copy(update={"by": "move"})})
    try:
        require_receiver(moving)
    except RefusedError as error:
        raise RefusedError(f"{error}; or fetch the series with --via get") from error
    uid = _only_series(wanted, settings)
    plan = plan_pull(Wanted((wanted.study_instance_uid,), (uid,)), settings.pacs)
    node, view = open_node(moving), pull_view()
    with view:
        tally = Pull(moving, node.ledger, node.spool, view).run(plan)
    for reason in tally.failures.values():
        raise SeriesError(f"series {uid} was not fetched: {reason}")
    return _spooled(uid, settings)


def _got(wanted: WantedImages, settings: NodeSettings, folder: Path) -> tuple[Path, ...]:
    from fewshot_node.dicom.query import fetch_series

    uid = _only_series(wanted, settings)
    return _saved(fetch_series(wanted.study_instance_uid, uid, settings.pacs), folder)


def _only_series(wanted: WantedImages, settings: NodeSettings) -> str:
    from fewshot_node.dicom.query import list_series

    if wanted.series_instance_uid:
        return wanted.series_instance_uid
    return _the_one(list_series(wanted.study_instance_uid, settings.pacs), wanted.study_instance_uid)


def _from_web(wanted: WantedImages, name: str, settings: NodeSettings, folder: Path) -> tuple[Path, ...]:
    from fewshot_node.dicom.pull.web import WebArchive

    destination = settings.delivery.destinations.get(name)
    if not isinstance(destination, StowDestination):
        servers = [key for key, one in settings.delivery.destinations.items() if isinstance(one, StowDestination)]
        known = f"known are {', '.join(servers)}" if servers else 'none is described; give it kind = "stow"'
        raise ConfigurationError(f"--via {name} is neither move, get nor a DICOMweb destination: {known}")
    archive = WebArchive(name, destination)
    study = wanted.study_instance_uid
    uid = wanted.series_instance_uid or _the_one(archive.list_series(study), study)
    return _saved(archive.fetch_series(study, uid), folder)


def _the_one(listed: "Sequence[RemoteSeries]", study_instance_uid: str) -> str:
    """Return the only series of a study that may hold images."""
    possible = [series for series in listed if series.modality not in _NO_IMAGES]
    if len(possible) == 1:
        return possible[0].series_instance_uid
    if not possible:
        raise SeriesError(f"the PACS lists no image series of study {study_instance_uid}: check the UID")
    named = ", ".join(f"{one.series_instance_uid} ({one.modality})" for one in possible)
    raise SeriesError(f"study {study_instance_uid} has {len(possible)} series: choose one with --series-uid: {named}")


def _saved(datasets: Sequence[Dataset], folder: Path) -> tuple[Path, ...]:
    paths = []
    for number, dataset in enumerate(datasets):
        paths.append(folder / f"{number:06d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return tuple(paths)
