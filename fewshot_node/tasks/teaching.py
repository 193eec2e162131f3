"""A task in a program of one's own: the commands ``task`` and ``template`` as methods."""

from collections.abc import Sequence
from pathlib import Path

from fewshot_node.dicom.objects.headers import series_in_folder
from fewshot_node.errors import SeriesError
from fewshot_node.records import TaskKind
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.exchange import Exported, SigningKey, export_task
from fewshot_node.tasks.fit import FitReport
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import PublishedTask, TaskDefinition, TaskSettings
from fewshot_node.tasks.templates import Template, read_template
from fewshot_node.vision.backbone import DenseEncoder, load_encoder


class Task:
    """One task of a registry; it holds nothing itself, so any number of them may stand for the same task.

    Parameters
    ----------
    registry
        Where the task lies.
    name
        Its name.

    Raises
    ------
    UnknownTaskError
        There is no task of that name; `Task.register` makes one.

    Examples
    --------
    >>> task = Task.register(Registry(Path("home/tasks")), "liver", labels=["1=Liver"], rules=["Modality=CT"])
    >>> task.add_template(Path("annotated"), Path("labels.nii.gz"))
    >>> task.fit()
    >>> task.publish()
    """

    def __init__(self, registry: Registry, name: str) -> None:
        registry.definition(name)
        self.registry = registry
        self.name = name

    @classmethod
    def register(
        cls,
        registry: Registry,
        name: str,
        labels: Sequence[str],
        *,
        rules: Sequence[str] = (),
        kind: TaskKind = TaskKind.SEGMENTATION,
        settings: TaskSettings | None = None,
    ) -> "Task":
        """Begin a task.

        Parameters
        ----------
        labels, rules
            As on the command line: ``"1=Liver"``, ``"Modality=CT"``.
        settings
            How it is learnt and applied; the defaults if absent.

        Raises
        ------
        TaskError
            There is a task of that name, or a label or a rule is not acceptable.
        """
        definition = TaskDefinition(
            name=name,
            kind=kind,
            labels=tuple(parse_label(text, kind) for text in labels),
            rules=tuple(parse_rule(text) for text in rules),
            settings=settings or TaskSettings(),
        )
        registry.add(definition)
        return cls(registry, name)

    @property
    def definition(self) -> TaskDefinition:
        """Labels, rules and settings of the draft."""
        return self.registry.definition(self.name)

    @property
    def templates(self) -> tuple[Template, ...]:
        """The annotated examples of the draft, by name."""
        return self.registry.templates(self.name)

    @property
    def revisions(self) -> tuple[int, ...]:
        """Numbers of the published revisions, rising."""
        return self.registry.revisions(self.name)

    def add_template(
        self, series: Path | Sequence[Path], labels: Path | None, selection: TemplateSelection | None = None
    ) -> Template:
        """Add an annotated example to the draft and return it.

        Parameters
        ----------
        series
            Folder with the images of one series, or the files.
        labels
            File with the annotation, of any kind that ``template add`` reads; None for a series that shows no label.
        selection
            Which slices to keep, and which label values stand for which.

        Raises
        ------
        SeriesError, GeometryError, PixelDataError
            The images cannot be used.
        TemplateError
            The annotation cannot be used, or the draft does not take it.
        """
        files = _files_of(series) if isinstance(series, Path) else tuple(series)
        template = read_template(files, labels, self.definition, selection)
        self.registry.add_template(self.name, template)
        return template

    def remove_template(self, name: str) -> None:
        """Take a template out of the draft.

        Raises
        ------
        TemplateError
            The draft has no such template.
        """
        self.registry.remove_template(self.name, name)

    def fit(self, encoder: DenseEncoder | None = None) -> FitReport:
        """Learn the draft from its templates, with the embedded encoder if none is given.

        Raises
        ------
        TaskError, TemplateError
            There is no template, or none that shows a label.
        """
        return self.registry.fit(self.name, encoder or load_encoder("embedded"))

    def publish(self, refiner_digest: str | None = None) -> int:
        """Freeze the fitted draft as the next revision and return its number.

        Raises
        ------
        TaskError
            The draft is not fitted as it is.
        """
        return self.registry.publish(self.name, refiner_digest)

    def published(self, revision: int | None = None) -> PublishedTask:
        """Return a revision, ready to be applied (`fewshot_node.pipeline.analyse`).

        Raises
        ------
        UnknownTaskError, TaskError
            There is no such revision, or it was altered.
        """
        return self.registry.published(self.name, revision)

    def export(
        self, out: Path, revision: int | None = None, *, templates: bool = True, key: SigningKey | None = None
    ) -> Exported:
        """Write a revision into one file for another site; see `fewshot_node.tasks.exchange.export_task`."""
        return export_task(self.registry, self.name, out, revision=revision, templates=templates, key=key)


def _files_of(folder: Path) -> tuple[Path, ...]:
    found = series_in_folder(folder)
    if len(found) != 1:
        listed = ", ".join(sorted(found)) or "none"
        raise SeriesError(
            f"{folder} does not hold the images of exactly one series (it holds {listed}): give the files"
        )
    return next(iter(found.values()))
