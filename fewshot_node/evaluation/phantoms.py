"""Synthetic patients with exact truth, for the demo, the tests and `doctor`.

`torso_ct` and `knee_mr` make a patient from a number; the same number and settings give the same voxels.
"""

from fewshot_node.evaluation.phantom_ct import TORSO_LABELS, TORSO_SETTINGS, torso_ct
from fewshot_node.evaluation.phantom_mr import (
    KNEE_LABELS,
    KNEE_SETTINGS,
    LIGAMENT_INSERTION,
    PATELLA_APEX,
    PATELLA_BASE,
    knee_mr,
)
from fewshot_node.evaluation.phantom_records import Phantom, PhantomSettings

__all__ = [
    "KNEE_LABELS",
    "KNEE_SETTINGS",
    "LIGAMENT_INSERTION",
    "PATELLA_APEX",
    "PATELLA_BASE",
    "TORSO_LABELS",
    "TORSO_SETTINGS",
    "Phantom",
    "PhantomSettings",
    "knee_mr",
    "torso_ct",
]
