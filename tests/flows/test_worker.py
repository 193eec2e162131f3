"""What a worker does before it takes work."""

import os
import time
from pathlib import Path

from flows.worker import _sweep


def test_what_killed_workers_left_is_swept_and_the_rest_stays(tmp_path: Path) -> None:
    old, young = time.time() - 24 * 3600, time.time()
    made = {
        ".features-old": old,
        ".features-young": young,
        "1.2.3@1/.tmp-old": old,
        "1.2.3@1/.tmp-young": young,
        "1.2.3@1/liver": old,
    }
    for name, when in made.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("content")
        os.utime(tmp_path / name, (when, when))
    _sweep(tmp_path)
    assert {name for name in made if (tmp_path / name).exists()} == {
        ".features-young",
        "1.2.3@1/.tmp-young",
        "1.2.3@1/liver",
    }
    _sweep(tmp_path / "absent")
