"""Imported revisions that wait: nothing routes to them until somebody adopts them."""

from pathlib import Path

from fewshot_node.disk import make_folder, sync
from fewshot_node.errors import TaskError, UnknownTaskError
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.revision import load_revision, reseal_revision
from fewshot_node.tasks.task import PublishedTask

_IMPORTS = "imported"
"""Folder beside a task's revisions: nothing in it is ever routed to."""


def waiting_revisions(registry: Registry, task: str) -> tuple[int, ...]:
    """Return the numbers of a task's imported revisions that nobody has adopted yet, rising.

    Raises
    ------
    UnknownTaskError
        There is no such task.
    """
    registry.definition(task)
    folders = revision_folders(registry.root / task)
    return tuple(int(folder.name) for folder in folders if folder.parent.name == _IMPORTS)


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
        waiting = ", ".join(map(str, known)) or "none"
        raise UnknownTaskError(f"task {task} has no imported revision {revision} that waits: waiting are {waiting}")
    return load_revision(import_folder(registry.root / task, revision))


def adopt(registry: Registry, task: str, revision: int) -> tuple[int, str]:
    """Make an imported revision one of the site's own; return its number and digest.

    It keeps both unless a later revision was published since it came: then it goes after that one.

    Raises
    ------
    UnknownTaskError
        There is no such task, or no such revision waits.
    TaskError
        It was altered, or somebody else published a revision meanwhile.
    """
    digest = load_waiting(registry, task, revision).digest
    source, number = import_folder(registry.root / task, revision), revision
    newest = (registry.revisions(task) or (0,))[-1]
    if newest >= number:
        number = newest + 1
        digest = seal_for(source, task, number)
    target = registry.root / task / "revisions" / f"{number:04d}"
    make_folder(target.parent)
    try:
        source.rename(target)  # onto a folder that is not empty it fails
    except OSError as error:
        raise TaskError(
            f"revision {number} of task {task} cannot be made ({error.strerror}): adopt it again"
        ) from error
    for folder in (source.parent, target.parent):
        sync(folder)
    registry.lifecycle(task).go_live(number, lambda folder: None)
    return number, digest


def import_folder(task: Path, number: int) -> Path:
    """Return where an imported revision of the task in a folder waits."""
    return task / _IMPORTS / f"{number:04d}"


def revision_folders(task: Path) -> list[Path]:
    """Return the folders of all revisions of a task, those that wait to be adopted too, by number."""
    folders = [
        path for where in ("revisions", _IMPORTS) for path in (task / where).glob("[0-9]*") if path.name.isdigit()
    ]
    return sorted(folders, key=lambda path: int(path.name))


def seal_for(staged: Path, task: str, number: int) -> str:
    """Give a revision the name and number that it has here, and let nobody write to it; return its digest."""
    digest = reseal_revision(staged, task, number)
    for path in staged.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    return digest
