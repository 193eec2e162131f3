"""Label volumes of any grid, compared with the grid of a series in millimetres and brought onto it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from fewshot_node.errors import TemplateError
from fewshot_node.records import LabelArray
from fewshot_node.tasks.annotations.records import Target

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
TOLERANCE_VOXELS = 0.25
_MOST_LOST = 0.05

Affine = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LabelVolume:
    """Labels as a file holds them: uint8 (i, j, k), and the affine of (i, j, k, 1) to LPS mm."""

    labels: LabelArray
    to_lps: Affine


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Labels on the series' grid, uint8 (slices, rows, columns); `notes` say what was done and lost."""

    label_map: LabelArray
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Fit:
    """How the file's axes lie along slices, rows and columns, and how far (mm) its corners are off."""

    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    same_shape: bool
    off_mm: float
    off_voxels: float

    @property
    def fits(self) -> bool:
        return self.same_shape and self.off_voxels <= TOLERANCE_VOXELS


def place(source: LabelVolume, target: Target) -> Placed:
    """Bring a label volume onto the grid of a series.

    Flipped and permuted axes are put right; another grid is refused, or resampled where `target` says so.

    Raises
    ------
    TemplateError
        The grids differ, in mm, and the labels may not be resampled; or none of them lies in the series.
    """
    fit = _fit(source, target)
    if fit.fits:
        placed = source.labels.transpose(fit.axes)
        for row, flipped in enumerate(fit.flips):
            placed = np.flip(placed, row) if flipped else placed
        return Placed(np.ascontiguousarray(placed))
    if not target.resample:
        raise TemplateError(f"{_differences(source, target, fit)}: {_remedy(source, target)}")
    return _resampled(source, target)


def _fit(source: LabelVolume, target: Target) -> _Fit:
    volume = target.volume
    to_index = np.linalg.inv(volume.affine) @ source.to_lps
    axes = tuple(int(axis) for axis in np.abs(to_index[:3, :3]).argmax(axis=1))
    if sorted(axes) != [0, 1, 2]:
        return _Fit((0, 1, 2), (False,) * 3, False, np.inf, np.inf)
    flips = tuple(bool(to_index[row, axis] < 0) for row, axis in enumerate(axes))
    same_shape = tuple(source.labels.shape[axis] for axis in axes) == volume.array.shape
    corners = _corners(source.labels.shape)
    expected = corners[:, list(axes)]
    expected = np.where(flips, np.array(volume.array.shape) - 1 - expected, expected)
    mapped = corners @ to_index[:3, :3].T + to_index[:3, 3]
    off = mapped - expected
    off_mm = float(np.linalg.norm(off @ volume.affine[:3, :3].T, axis=1).max())
    return _Fit(axes, flips, same_shape, off_mm, float(np.abs(off).max()))


def _corners(shape: tuple[int, ...]) -> NDArray[np.float64]:
    grid = np.meshgrid(*((0, size - 1) for size in shape), indexing="ij")
    return np.stack(grid, -1).reshape(-1, 3).astype(np.float64)


def _differences(source: LabelVolume, target: Target, fit: _Fit) -> str:
    volume = target.volume
    own_mm = np.linalg.norm(source.to_lps[:3, :3], axis=0)
    how = [f"corners lie up to {fit.off_mm:.1f} mm apart"] if np.isfinite(fit.off_mm) else ["its axes are turned"]
    if not fit.same_shape:
        how.insert(0, "the shapes differ")
    return (
        f"label file {target.path} ({_times(source.labels.shape)} voxels of {_times(own_mm)} mm) lies on another "
        f"grid than {target.series} ({_times(volume.array.shape)} slices x rows x columns of "
        f"{_times(volume.spacing_mm)} mm): {', '.join(how)}"
    )


def _remedy(source: LabelVolume, target: Target) -> str:
    turned = LabelVolume(source.labels, RAS_TO_LPS @ source.to_lps)
    if _fit(turned, target).fits:
        return "it fits with x and y negated, so its writer took LPS for RAS: correct its affine"
    if not _overlap(source, target):
        return "nothing of it lies in the series: give the series that it was drawn on"
    return "draw the labels on this series, or give --resample (nearest neighbour)"


def _overlap(source: LabelVolume, target: Target) -> bool:
    """Tell whether some labelled voxel lies inside the series."""
    places = np.argwhere(source.labels)
    if not len(places):
        return True
    to_index = np.linalg.inv(target.volume.affine) @ source.to_lps
    mapped = places @ to_index[:3, :3].T + to_index[:3, 3]
    inside = (mapped >= -0.5) & (mapped <= np.array(target.volume.array.shape) - 0.5)
    return bool(inside.all(axis=1).any())


def _resampled(source: LabelVolume, target: Target) -> Placed:
    volume = target.volume
    if not _overlap(source, target):
        raise TemplateError(
            f"label file {target.path} lies outside {target.series}, which spans {span_mm(target)}: "
            "give the series that it was drawn on"
        )
    to_source = np.linalg.inv(source.to_lps) @ volume.affine
    label_map = affine_transform(
        source.labels, to_source[:3, :3], to_source[:3, 3], volume.array.shape, order=0, mode="constant", cval=0
    )
    own_mm = np.linalg.norm(source.to_lps[:3, :3], axis=0)
    notes = [f"resampled from {_times(own_mm)} mm (nearest neighbour)"]
    own_mm3 = float(abs(np.linalg.det(source.to_lps[:3, :3])))
    before, after = (np.bincount(array.ravel(), minlength=256) for array in (source.labels, label_map))
    for value in np.flatnonzero(before[1:]) + 1:
        kept = after[value] * volume.voxel_mm3 / (before[value] * own_mm3)
        if kept < 1 - _MOST_LOST:
            notes.append(f"only {kept:.0%} of value {value} lies in the series")
    return Placed(np.ascontiguousarray(label_map), tuple(notes))


def span_mm(target: Target) -> str:
    """Say where a series lies, by its corners in LPS mm."""
    corners = target.volume.to_mm(_corners(target.volume.array.shape))
    ends = zip("xyz", corners.min(axis=0), corners.max(axis=0), strict=True)
    return ", ".join(f"{axis} {low:.0f}..{high:.0f}" for axis, low, high in ends) + " mm (LPS)"


def _times(values: object) -> str:
    return " x ".join(f"{one:.3g}" if isinstance(one, float) else str(one) for one in np.asarray(values).tolist())
