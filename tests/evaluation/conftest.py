"""Small phantoms, made once: they are quick but keep the anatomy of the default ones."""

import numpy as np
import pytest

from fewshot_node.evaluation.phantoms import Phantom, PhantomSettings, knee_mr, torso_ct
from fewshot_node.records import SourceFrame, Volume

SMALL_TORSO = PhantomSettings(slices=20, rows=96, columns=80, slice_mm=10.0, pixel_mm=4.6)
SMALL_KNEE = PhantomSettings(slices=14, rows=80, columns=72, slice_mm=8.0, pixel_mm=2.1)


@pytest.fixture(scope="session")
def small_torso() -> Phantom:
    return torso_ct(3, SMALL_TORSO)


@pytest.fixture(scope="session")
def small_knee() -> Phantom:
    return knee_mr(3, SMALL_KNEE)


@pytest.fixture(params=["small_torso", "small_knee"])
def phantom(request: pytest.FixtureRequest) -> Phantom:
    made: Phantom = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def as_volume():
    def convert(phantom: Phantom) -> Volume:
        frames = tuple(SourceFrame("1.2", f"1.2.{index}") for index in range(len(phantom.array)))
        return Volume(
            array=phantom.array,
            affine=np.asarray(phantom.affine),
            frames=frames,
            modality=phantom.modality,
            study_instance_uid="1.2.3",
            series_instance_uid="1.2.3.4",
            frame_of_reference_uid="1.2.3.5",
        )

    return convert
