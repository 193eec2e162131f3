"""Intensities of a volume brought to 0..1, the same way for every slice of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_node.errors import ConfigurationError

Range = tuple[float, float]
"""Values that become 0 and 1."""

_SAMPLED_VOXELS = 4_000_000


@dataclass(frozen=True, slots=True)
class IntensitySettings:
    """How stored values become 0..1.

    Attributes
    ----------
    ct_windows
        (centre, width) in HU. An encoder of one channel sees the first window, one of several channels
        sees as many windows; a single window is repeated. The defaults are soft tissue, lung, bone.
    percentiles
        Of a volume's foreground, for every modality but CT.
    """

    ct_windows: tuple[tuple[float, float], ...] = ((40.0, 400.0), (-600.0, 1500.0), (400.0, 1800.0))
    percentiles: tuple[float, float] = (0.5, 99.5)

    def __post_init__(self) -> None:
        if not self.ct_windows or any(width <= 0 for _, width in self.ct_windows):
            raise ConfigurationError("intensity.ct_windows: give at least one (centre, width) with a width above 0")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ConfigurationError("intensity.percentiles: give two rising numbers within 0..100")


def normalise(
    array: NDArray[np.float32], modality: str, settings: IntensitySettings | None = None, channels: int = 1
) -> NDArray[np.float32]:
    """Bring a volume to 0..1.

    Parameters
    ----------
    array
        float32 (slices, rows, columns): HU for CT.
    modality
        Modality (0008,0060).
    channels
        Input channels of the encoder.

    Returns
    -------
    NDArray
        float32 (slices, channels, rows, columns) in 0..1.
    """
    return apply_ranges(array, intensity_ranges(array, modality, settings or IntensitySettings(), channels))


def intensity_ranges(
    array: NDArray[np.float32], modality: str, settings: IntensitySettings, channels: int
) -> tuple[Range, ...]:
    """Return one range a channel, from the whole volume (never from a slice of it).

    A CT without a single negative value holds no air and so no Hounsfield units (a windowed 8-bit copy,
    a lost rescale intercept); it is treated by its percentiles, as any other modality is.

    Parameters
    ----------
    array
        float32 (slices, rows, columns): HU for CT, any numbers for the rest.
    channels
        Of the encoder.

    Returns
    -------
    tuple of Range
        Least and greatest value of each channel, which 0 and 1 will stand for.

    Raises
    ------
    ConfigurationError
        There are several windows, and fewer than channels.
    """
    if modality == "CT" and array.min(initial=0) < 0:
        windows = settings.ct_windows
        if channels > 1 and len(windows) == 1:
            windows = windows * channels
        if len(windows) < channels:
            raise ConfigurationError(
                f"intensity.ct_windows: {len(windows)} windows for an encoder of {channels} channels; "
                "give one window, or one a channel"
            )
        return tuple((centre - width / 2, centre + width / 2) for centre, width in windows[:channels])
    return (_percentile_range(array, settings.percentiles),) * channels


def apply_ranges(array: NDArray[np.float32], ranges: Sequence[Range]) -> NDArray[np.float32]:
    """Scale (slices, rows, columns) by each range: float32 (slices, channels, rows, columns) in 0..1."""
    scaled = np.empty((len(array), len(ranges), *array.shape[1:]), dtype=np.float32)
    for channel, (low, high) in enumerate(ranges):
        if channel and ranges[channel] == ranges[channel - 1]:
            scaled[:, channel] = scaled[:, channel - 1]
            continue
        np.clip((array - np.float32(low)) / np.float32(high - low), 0, 1, out=scaled[:, channel])
    return scaled


def _percentile_range(array: NDArray[np.float32], percentiles: tuple[float, float]) -> Range:
    """Percentiles over what lies above the volume's minimum, so that padding does not count."""
    sample = array.reshape(-1)[:: max(1, array.size // _SAMPLED_VOXELS)]
    sample = sample[np.isfinite(sample)]
    foreground = sample[sample > sample.min(initial=np.inf)]
    if not foreground.size:
        level = float(sample[0]) if sample.size else 0.0
        return level, level + 1.0
    low, high = (float(value) for value in np.percentile(foreground, percentiles))
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))
