"""The one series that a folder on the command line holds."""

from pathlib import Path

from fewshot_node.dicom.objects.headers import read_header, series_in_folder
from fewshot_node.errors import SeriesError
from fewshot_node.records import ReceivedSeries, SeriesKey


def series_from_folder(folder: Path, calling_ae_title: str = "") -> ReceivedSeries:
    """Return the image series below `folder`, as if it had been received.

    Raises
    ------
    SeriesError
        There is no image below the folder, or images of several series.
    """
    if not folder.is_dir():
        raise SeriesError(f"{folder} is no folder: give the folder that holds the images of one series")
    found = series_in_folder(folder)
    if not found:
        raise SeriesError(f"{folder} holds no DICOM image: give the folder that holds the images of one series")
    if len(found) > 1:
        raise SeriesError(f"{folder} holds {len(found)} series: give a folder with one of {', '.join(sorted(found))}")
    uid, files = next(iter(found.items()))
    study = str(read_header(files).dataset.StudyInstanceUID)
    return ReceivedSeries(SeriesKey(uid), study, calling_ae_title, files)
