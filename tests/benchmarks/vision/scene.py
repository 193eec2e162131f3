"""A synthetic abdomen on the grid of a usual CT, and the default task taught on five slices of others."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fewshot_node.records import Code, Label, LabelArray, TaskKind
from fewshot_node.tasks.fit import fit_task
from fewshot_node.tasks.task import TaskDefinition, TaskSettings
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.adapters import Adapter
from fewshot_node.vision.backbone import DenseEncoder, load_encoder

SIDE = 512
SPACING_MM = (1.5, 0.8, 0.8)
TEMPLATES = 5

# Centre (slice, row, column) and radii as shares of the volume, and HU.
_ORGANS = {
    "Liver": ((0.55, 0.45, 0.33), (0.20, 0.17, 0.15), 110.0),
    "Spleen": ((0.55, 0.52, 0.74), (0.13, 0.09, 0.06), 125.0),
    "Left kidney": ((0.42, 0.62, 0.66), (0.12, 0.06, 0.05), 190.0),
    "Right kidney": ((0.40, 0.62, 0.34), (0.12, 0.06, 0.05), 190.0),
    "Aorta": ((0.50, 0.57, 0.52), (0.60, 0.03, 0.03), 240.0),
    "Vertebrae": ((0.50, 0.69, 0.50), (0.60, 0.06, 0.055), 420.0),
}
LABELS = tuple(
    Label(value, name, Code("123037004", "SCT", "Anatomical Structure"), Code(f"99{value}", "99BENCH", name))
    for value, name in enumerate(_ORGANS, start=1)
)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One patient: HU float32 and labels uint8, both (slices, rows, columns)."""

    array: NDArray[np.float32]
    label_map: LabelArray


def draw_patient(seed: int, slices: int) -> Scene:
    """Draw a trunk with its organs, each patient's a little elsewhere; noise as of a usual dose."""
    rng = np.random.default_rng(seed)
    depth = ((np.arange(slices) + 0.5) / slices)[:, None, None]
    rows, columns = np.ogrid[:SIDE, :SIDE]
    rows, columns = (rows + 0.5) / SIDE, (columns + 0.5) / SIDE
    array = np.full((slices, SIDE, SIDE), -1000.0, dtype=np.float32)
    array[:, ((rows - 0.5) / 0.33) ** 2 + ((columns - 0.5) / 0.42) ** 2 < 1] = -90.0
    array[:, ((rows - 0.5) / 0.29) ** 2 + ((columns - 0.5) / 0.38) ** 2 < 1] = 50.0
    label_map = np.zeros(array.shape, dtype=np.uint8)
    for value, (centre, radii, hounsfield) in enumerate(_ORGANS.values(), start=1):
        moved = np.array(centre) + rng.normal(0, 0.01, 3)
        size = np.array(radii) * rng.uniform(0.9, 1.1)
        inside = sum(
            ((axis - at) / radius) ** 2 for axis, at, radius in zip((depth, rows, columns), moved, size, strict=True)
        )
        label_map[inside < 1] = value
        array[inside < 1] = hounsfield + rng.normal(0, 5)
    for index in range(len(array)):  # slice by slice: the noise of a whole volume would be the peak of the memory bar
        array[index] += ndimage.gaussian_filter(rng.normal(0, 40, array[index].shape), 1.0).astype(np.float32)
    return Scene(array, label_map)


def template(seed: int) -> Template:
    """Return the slice of a patient that shows most organs, annotated."""
    scene = draw_patient(seed, 12)
    counts = [len(np.unique(one)) for one in scene.label_map]
    best = int(np.argmax(counts))
    part = slice(best, best + 1)
    return Template(
        f"t{seed}",
        f"2.25.{seed}",
        "CT",
        scene.array[part],
        scene.label_map[part],
        scene.array.reshape(-1)[::37],
        (),
        SPACING_MM,
        "axial",
        (best,),
        (f"2.25.{seed}.1",),
    )


def definition(input_px: int | None = None, **adapter: object) -> TaskDefinition:
    """Return the task with the default settings, its adapter's changed by key."""
    settings = TaskSettings()
    if input_px is not None:
        settings = replace(settings, encode=replace(settings.encode, input_px=input_px))
    return TaskDefinition(
        "bench-abdomen",
        TaskKind.SEGMENTATION,
        LABELS,
        settings=replace(settings, adapter=replace(settings.adapter, **adapter)),
    )


@cache
def encoder() -> DenseEncoder:
    """Load the packaged encoder, once."""
    return load_encoder("embedded")


def taught(task: TaskDefinition, by: DenseEncoder | None = None) -> Adapter:
    """Teach a task on one slice of each of five patients, by the packaged encoder unless another is given."""
    return fit_task(task, [template(seed) for seed in range(1, TEMPLATES + 1)], by or encoder())[0]
