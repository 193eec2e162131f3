"""JSON that people wrote: read without trust."""

import json
import math
from pathlib import Path
from typing import Any

from fewshot_node.errors import TemplateError

POINTS_REMEDY = 'write {"landmarks": {"NAME": {"position_mm": [x, y, z]}}}'


def read_json_file(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    TemplateError
        It is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise TemplateError(f"label file {path} cannot be read as JSON: {POINTS_REMEDY}") from error


def three_numbers(value: Any, name: str, path: Path) -> tuple[float, float, float]:
    """Return three finite numbers.

    Raises
    ------
    TemplateError
        It is something else.
    """
    numbers = value if isinstance(value, list) else []
    plain = all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in numbers)
    if len(numbers) != 3 or not plain:
        raise TemplateError(f"{path}: landmark {name!r} is not three numbers: {POINTS_REMEDY}")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])
