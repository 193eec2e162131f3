"""What a site has taught the node: tasks, their routing rules, templates and fitted adapters.

The Python interface is `Registry`, `Task` and `Template`, imported from here; everything that the commands ``task`` and
``template`` do is a method of theirs. The README has a short tutorial.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot_node.tasks.registry import Registry
    from fewshot_node.tasks.teaching import Task
    from fewshot_node.tasks.templates import Template

__all__ = ["Registry", "Task", "Template"]

_HOMES = {"Registry": "registry", "Task": "teaching", "Template": "templates"}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the modules below must be had without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no {name}: it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
