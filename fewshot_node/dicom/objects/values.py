"""Numbers in headers, which senders fill with anything."""

import math

from pydicom.dataset import Dataset

from fewshot_node.errors import SeriesError


def number(dataset: Dataset, keyword: str, default: float, uid: str) -> float:
    """Return an attribute as a number, `default` where it is absent or empty.

    Parameters
    ----------
    dataset
        The image, or an item of one of its sequences.
    uid
        SOP Instance UID of the image, for the error.

    Raises
    ------
    SeriesError
        The attribute holds something else than one finite number.
    """
    value = dataset.get(keyword)
    if value is None or not str(value).strip():
        return default
    try:
        parsed = float(value)
    except (TypeError, ValueError, OverflowError):
        parsed = math.nan
    if not math.isfinite(parsed):
        raise SeriesError(f"instance {uid}: {keyword} is not a number: export the series again")
    return parsed


def number_of_frames(dataset: Dataset) -> int:
    """Return how many frames an image has; one that does not say so has one.

    Raises
    ------
    SeriesError
        Number of Frames is no whole number above zero.
    """
    uid = str(dataset.SOPInstanceUID)
    frames = number(dataset, "NumberOfFrames", 1, uid) or 1  # 0 stands for absent in some exports
    if frames < 1 or frames != int(frames):
        raise SeriesError(f"instance {uid}: NumberOfFrames is not a whole number above 0: export the series again")
    return int(frames)
