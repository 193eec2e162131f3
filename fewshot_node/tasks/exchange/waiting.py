"""Imported revisions that wait: nothing routes to them until somebody adopts them."""

from pathlib import Path

from fewshot_node.errors import UnknownTaskError
from fewshot_node.tasks.approval import require_score, revision_score
from fewshot_node.tasks.lifecycle import IMPORTS
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.revision import load_revision
from fewshot_node.tasks.task import PublishedTask


def waiting_revisions(registry: Registry, task: str) -> tuple[int, ...]:
    """Return the numbers of a task's imported revisions that nobody has adopted yet, rising.

    Raises
    ------
    UnknownTaskError
        There is no such task.
    """
    registry.definition(task)
    folders = revision_folders(registry.root / task)
    return tuple(int(folder.name) for folder in folders if folder.parent.name == IMPORTS)


def load_waiting(registry: Registry, task: str, revision: int) -> PublishedTask:
    """Return an imported revision that waits, compared with its digests.

    Raises
    ------
    UnknownTaskError
        There is no such task, or no such revision waits.
    TaskError
        It was altered.
    """
    known = waiting_revisions(registry, task)
    if revision not in known:
        text = f"task {task} has no imported revision {revision} that waits: "
        if revision in registry.revisions(task):
            raise UnknownTaskError(f"{text}it is one of its own already (task go-live, task shadow)")
        raise UnknownTaskError(f"{text}waiting are {', '.join(map(str, known)) or 'none'}")
    return load_revision(import_folder(registry.root / task, revision))


def adopt(
    registry: Registry, task: str, revision: int, *, shadow: bool = False, minimum_score: float | None = None
) -> tuple[int, str]:
    """Make an imported revision one of the site's own; return its number and digest.

    It keeps both unless a later revision was published since it came: then it goes after that one.

    Parameters
    ----------
    shadow
        Let it run beside the live revision and send nothing; else it is the live one from now on.
    minimum_score
        What its crossvalidation, as its origin noted it, must have reached to go live; None asks for nothing.

    Raises
    ------
    UnknownTaskError
        There is no such task, or no such revision waits.
    TaskError
        It was altered, its score is not what is asked for, the task is retired, or somebody else changes it.
    """

    def check(folder: Path) -> None:
        load_waiting(registry, task, revision)
        if not shadow:
            or_else = f"let it run in shadow (task adopt {task} {revision} --shadow)"
            require_score(task, revision_score(folder), minimum_score, or_else, imported=True)

    return registry.lifecycle(task).adopt(import_folder(registry.root / task, revision), check, shadow=shadow)


def import_folder(task: Path, number: int) -> Path:
    """Return where an imported revision of the task in a folder waits."""
    return task / IMPORTS / f"{number:04d}"


def revision_folders(task: Path) -> list[Path]:
    """Return the folders of all revisions of a task, those that wait to be adopted too, by number."""
    folders = [
        path for where in ("revisions", IMPORTS) for path in (task / where).glob("[0-9]*") if path.name.isdigit()
    ]
    return sorted(folders, key=lambda path: int(path.name))
