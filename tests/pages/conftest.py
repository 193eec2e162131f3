"""The phantoms that pictures are drawn of are the evaluation's."""

from tests.evaluation.conftest import as_volume, small_knee, small_torso

__all__ = ["as_volume", "small_knee", "small_torso"]
