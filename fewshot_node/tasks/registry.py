"""The tasks of a site, on disk.

::

    <root>/<task>/draft/       definition.json  provenance.json  templates/  fit.json  adapter.safetensors
    <root>/<task>/revisions/0001/    the same files and manifest.json, never changed again
    <root>/<task>/standing.json      which revision is live, in shadow, and who made it so
    <root>/<task>/lock.json          held by who changes the task

Everything is JSON or safetensors; nothing is unpickled. A draft changes file by file, each of them
whole; a revision appears as a whole folder or not at all.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from fewshot_node.disk import whole_file, whole_folder
from fewshot_node.errors import TaskError, TemplateError, UnknownTaskError
from fewshot_node.tasks.admission import require_fitting_definition, require_fitting_template
from fewshot_node.tasks.approval import require_score, score_of_draft
from fewshot_node.tasks.candidates import Candidate, candidates
from fewshot_node.tasks.fit import FitReport, fit_key, fit_task
from fewshot_node.tasks.lifecycle import Lifecycle
from fewshot_node.tasks.lock import task_lock
from fewshot_node.tasks.origin import (
    TemplateOrigin,
    now,
    operating_user,
    read_origins,
    tool_version,
    write_origins,
)
from fewshot_node.tasks.progress import Watch, unwatched
from fewshot_node.tasks.storage import read_json, write_json
from fewshot_node.tasks.task import (
    PublishedTask,
    TaskDefinition,
    check_name,
    definition_from_data,
    definition_to_data,
)
from fewshot_node.tasks.template_store import load_template, remove_template, save_template, template_names
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.adapters import save_adapter
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.feature_cache import FeatureCache

logger = logging.getLogger(__name__)


class Registry:
    """Tasks below one folder; the folder is made when the first task is added.

    A task is a draft, to which templates are added and which is fitted, and its published revisions.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, definition: TaskDefinition) -> None:
        """Begin a task.

        Raises
        ------
        TaskError
            There is a task of that name.
        """
        try:
            with whole_folder(self.root / definition.name) as folder:
                write_json(folder / "draft" / "definition.json", definition_to_data(definition))
        except FileExistsError as error:
            if not (self.root / definition.name).exists():
                raise  # a file stands where a folder above should be
            raise TaskError(
                f"task {definition.name} exists: choose another name, or change it (task change)"
            ) from error

    def update(self, definition: TaskDefinition, seen: TaskDefinition | None = None) -> None:
        """Replace the definition of a task's draft; what is published stays as it is.

        Parameters
        ----------
        seen
            What the new definition was made from: when it is not the present one any more, nothing is changed.

        Raises
        ------
        UnknownTaskError
            There is no task of that name.
        TaskError
            The kind changes, templates show labels that the new definition lacks, or somebody else changed the
            task meanwhile.
        """
        with task_lock(self._draft(definition.name).parent, "task change"):
            self._update(definition, seen)

    def _update(self, definition: TaskDefinition, seen: TaskDefinition | None) -> None:
        old = self.definition(definition.name)
        if seen is not None and seen != old:
            raise TaskError(f"task {old.name} was changed meanwhile: look at it (task show {old.name}), then try again")
        require_fitting_definition(definition, old, self.templates(definition.name))
        write_json(self._draft(definition.name) / "definition.json", definition_to_data(definition))

    def names(self) -> tuple[str, ...]:
        """Return the names of all tasks, sorted."""
        return tuple(sorted(path.parent.parent.name for path in self.root.glob("[!.]*/draft/definition.json")))

    def definition(self, name: str) -> TaskDefinition:
        """Return the definition of a task's draft.

        Raises
        ------
        UnknownTaskError
            There is no task of that name; the message lists the known ones.
        """
        path = self._draft(name) / "definition.json"
        return definition_from_data(read_json(path), str(path))

    def template_names(self, name: str) -> tuple[str, ...]:
        """Return the names of the templates of a task's draft, sorted."""
        return template_names(self._draft(name) / "templates")

    def templates(self, name: str) -> tuple[Template, ...]:
        """Return the templates of a task's draft, sorted by name and compared with their digests."""
        folder = self._draft(name) / "templates"
        return tuple(load_template(folder, template) for template in template_names(folder))

    def add_template(self, name: str, template: Template) -> None:
        """Add an annotated example to a task's draft.

        Raises
        ------
        TemplateError
            Its name is taken, it repeats another template, its modality differs from the others' or it
            shows labels that the task does not have.
        """
        check_name(template.name, "template")
        with task_lock(self._draft(name).parent, "template add"):
            self._add_template(name, template)

    def _add_template(self, name: str, template: Template) -> None:
        require_fitting_template(template, self.definition(name), self.templates(name))
        save_template(template, self._draft(name) / "templates")
        origin = template.origin or TemplateOrigin(by=operating_user(), at=now(), tool=tool_version())
        write_origins(self._draft(name), {**self.origins(name), template.name: origin})

    def remove_template(self, name: str, template: str) -> None:
        """Remove a template from a task's draft; published revisions keep theirs.

        Raises
        ------
        TemplateError
            The draft has no such template.
        """
        with task_lock(self._draft(name).parent, "template remove"):
            self._require_template(name, template)
            remove_template(self._draft(name) / "templates", template)
            write_origins(self._draft(name), {key: one for key, one in self.origins(name).items() if key != template})

    def template(self, name: str, template: str) -> Template:
        """Return one template of a task's draft, compared with its digest.

        Raises
        ------
        TemplateError
            The draft has no such template.
        """
        self._require_template(name, template)
        return load_template(self._draft(name) / "templates", template)

    def origins(self, name: str) -> Mapping[str, TemplateOrigin]:
        """Return who added each template of a task's draft, from what and how."""
        return read_origins(self._draft(name))

    def fit(
        self, name: str, encoder: DenseEncoder, cache: FeatureCache | None = None, watch: Watch = unwatched
    ) -> FitReport:
        """Fit the adapter of a task's draft to its templates.

        Raises
        ------
        TaskError
            There is no template.
        TemplateError
            A label is shown by no template.
        """
        definition, templates = self.definition(name), self.templates(name)
        adapter, report = fit_task(definition, templates, encoder, cache, watch)
        draft, key = self._draft(name), fit_key(definition, templates, encoder.weights_digest)
        with task_lock(draft.parent, "task fit"):
            # The note goes first: weights without their note are not publishable.
            (draft / "fit.json").unlink(missing_ok=True)
            with whole_file(draft / "adapter.safetensors") as path:
                save_adapter(adapter, path)
            write_json(draft / "fit.json", {"fit_key": key, "encoder_digest": encoder.weights_digest})
        logger.info("task %s fitted to %d slices in %.1f s", name, report.slices, report.seconds)
        return report

    def is_fitted(self, name: str) -> bool:
        """Whether the draft's adapter belongs to the draft's labels, settings and templates."""
        path = self._draft(name) / "fit.json"
        if not path.is_file():
            return False
        note = read_json(path)
        current = fit_key(self.definition(name), self.templates(name), str(note.get("encoder_digest")))
        return bool(note.get("fit_key") == current)

    def publish(
        self,
        name: str,
        refiner_digest: str | None = None,
        *,
        shadow: bool = False,
        minimum_score: float | None = None,
    ) -> int:
        """Freeze a task's draft as its next revision and return the revision's number.

        Parameters
        ----------
        refiner_digest
            Digest of the weights that refine the task's masks, to be pinned with the revision.
        shadow
            Let it run beside the live revision and send nothing; else it is the live one from now on.
        minimum_score
            What the draft's crossvalidation must have reached to go live; None asks for nothing.

        Raises
        ------
        TaskError
            There is no template, the draft was not fitted, it changed since, or it refines its masks and
            no refiner was named; its score is not what is asked for; or the task is retired.
        """

        def check(draft: Path) -> None:
            if not self.template_names(name):
                raise TaskError(f"task {name} has no template: add one (template add), fit the task, then publish")
            if not (draft / "fit.json").is_file():
                raise TaskError(f"task {name} has not been fitted: fit it (task fit), then publish")
            if not self.is_fitted(name):
                raise TaskError(f"task {name} changed since it was fitted: fit it again (task fit), then publish")
            if self.definition(name).settings.refine.needs_model and refiner_digest is None:
                raise TaskError(f"task {name} refines with SAM and none is loaded: set worker.sam, then publish")
            if not shadow:
                or_else = f"let it run in shadow (task publish {name} --shadow)"
                require_score(name, score_of_draft(draft), minimum_score, or_else)

        return self.lifecycle(name).publish(self._draft(name), refiner_digest, check, shadow=shadow)

    def lifecycle(self, name: str) -> Lifecycle:
        """Return the published revisions of a task, and what is done with them."""
        return Lifecycle(self._draft(name).parent)

    def revisions(self, name: str) -> tuple[int, ...]:
        """Return the numbers of a task's published revisions, rising."""
        return self.lifecycle(name).revisions()

    def published(self, name: str, revision: int | None = None) -> PublishedTask:
        """Return one revision of a task, the live one by default, compared with its digests.

        Raises
        ------
        UnknownTaskError
            There is no such task or revision.
        TaskError
            Nothing is published yet, nothing is live, or the revision's files were altered.
        """
        lifecycle = self.lifecycle(name)
        wanted = lifecycle.standing().live if revision is None else revision
        if wanted is None:
            lifecycle.require_revisions()
            raise TaskError(f"task {name} has no live revision: task go-live {name}, or name a revision")
        return lifecycle.load(wanted)

    def candidates(self) -> tuple[Candidate, ...]:
        """Return the revisions that may take a series, by name: those that are live or in shadow."""
        return candidates(self.root)

    def draft_folder(self, name: str) -> Path:
        """Return the folder of a task's draft.

        Raises
        ------
        UnknownTaskError
            There is no task of that name.
        """
        return self._draft(name)

    def _draft(self, name: str) -> Path:
        names = self.names()
        if name not in names:
            known = f"known tasks: {', '.join(names)}" if names else "there is none yet; add one (task add)"
            raise UnknownTaskError(f"no task {name!r} in {self.root}: {known}")
        return self.root / name / "draft"

    def _require_template(self, name: str, template: str) -> None:
        known = self.template_names(name)
        if template not in known:
            raise TemplateError(f"task {name} has no template {template!r}: it has {', '.join(known) or 'none'}")
