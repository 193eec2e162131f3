"""What a task is: its labels, its rules and its settings, and how they stand in a JSON file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from fewshot_node.errors import TaskError
from fewshot_node.output import OutputSettings
from fewshot_node.records import Label, TaskKind
from fewshot_node.tasks.augment import AugmentSettings
from fewshot_node.tasks.rule_data import rule_from_data, rule_to_data
from fewshot_node.tasks.rule_groups import AnyRule
from fewshot_node.vision.adapters import Adapter, AdapterSettings
from fewshot_node.vision.encode import EncodeSettings
from fewshot_node.vision.landmarks import LandmarkSettings
from fewshot_node.vision.localize import CleaningSettings
from fewshot_node.vision.prompts import PromptSettings
from fewshot_node.vision.refine import RefineSettings

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def usual_refinement(engine: str = "walker") -> RefineSettings:
    """Return an engine's usual settings; without one, the random walker's, which needs no weights.

    The walker was measured to help an abdomen and to harm no suite. It takes what it is given as certain, so
    that random pixels of a doubtful region would harm it; SAM is asked as the paper asks it, and shown the regions'
    surroundings: its pixels go where the organ is.
    """
    prompts = PromptSettings(strategy="ours" if engine == "walker" else "random")
    return RefineSettings(engine=engine, prompts=prompts, crop=engine == "sam")


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """How the task is learnt and applied; each field is explained in its own class."""

    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    encode: EncodeSettings = field(default_factory=EncodeSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    cleaning: CleaningSettings = field(default_factory=CleaningSettings)
    landmarks: LandmarkSettings = field(default_factory=LandmarkSettings)
    refine: RefineSettings = field(default_factory=usual_refinement)
    output: OutputSettings = field(default_factory=OutputSettings)


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """What a site says about a task; templates come on top of it.

    Attributes
    ----------
    name
        1 to 32 of ``a-z 0-9 -``, not beginning with a hyphen.
    rules
        All must hold for a series to be taken; without rules the task takes none by itself.

    Raises
    ------
    TaskError
        The name is not acceptable, there is no label, or two labels share a value or a name.
    """

    name: str
    kind: TaskKind
    labels: tuple[Label, ...]
    rules: tuple[AnyRule, ...] = ()
    settings: TaskSettings = field(default_factory=TaskSettings)
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "task")
        if not self.labels:
            raise TaskError(f"task {self.name} has no label: give at least one, for example 1=Liver")
        for what, seen in (
            ("value", [str(label.value) for label in self.labels]),
            ("name", [label.name.casefold() for label in self.labels]),
        ):
            twice = sorted({one for one in seen if seen.count(one) > 1})
            if twice:
                raise TaskError(f"task {self.name}: two labels have the {what} {', '.join(twice)}: make them differ")

    @property
    def label_values(self) -> tuple[int, ...]:
        """Values of the labels, in their order."""
        return tuple(label.value for label in self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class PublishedTask:
    """One immutable revision of a task, ready to be applied.

    Attributes
    ----------
    digest
        Over everything in the revision: labels, rules, settings, templates, adapter weights, encoder
        and refiner.
    encoder_digest, refiner_digest
        Weights that the task was fitted and published with; no refiner digest means that none is asked for.
    is_shadow
        Whether it runs beside the live revision, and sends nothing.
    """

    definition: TaskDefinition
    revision: int
    digest: str
    adapter: Adapter
    encoder_digest: str
    refiner_digest: str | None
    folder: Path
    is_shadow: bool = False

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.definition.name

    def check_models(self, encoder_digest: str, refiner_digest: str | None) -> None:
        """Refuse models that the revision was not published with: its results would be other ones.

        Raises
        ------
        TaskError
            The encoder is another one than the adapter was fitted to, or the refiner is absent or another.
        """
        name = f"task {self.definition.name} revision {self.revision}"
        again = "or fit and publish the task again"
        if encoder_digest != self.encoder_digest:
            raise TaskError(
                f"{name} was fitted with encoder {self.encoder_digest[:12]}, but {encoder_digest[:12]} is loaded: "
                f"configure that encoder (worker.encoder), {again}"
            )
        if self.refiner_digest is not None and refiner_digest != self.refiner_digest:
            loaded = refiner_digest[:12] if refiner_digest else "none"
            raise TaskError(
                f"{name} refines with SAM {self.refiner_digest[:12]}, but {loaded} is loaded: "
                f"configure that SAM (worker.sam), {again}"
            )


@dataclass(frozen=True, slots=True)
class BrokenTask:
    """A published revision that a series was meant for and that cannot be applied to it."""

    name: str
    revision: int
    reason: str
    is_shadow: bool = False


class _DefinitionDocument(BaseModel):
    """The JSON form; `rules` stand as `rule_to_data` writes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1]
    name: str
    kind: TaskKind
    description: str = ""
    labels: tuple[Label, ...]
    rules: tuple[dict[str, Any], ...] = ()
    settings: TaskSettings


def check_name(name: str, what: str) -> None:
    """Refuse a name that is no folder name on every system.

    Raises
    ------
    TaskError
        The name has other characters than ``a-z 0-9 -``, is longer than 32 or begins with a hyphen.
    """
    if not _NAME.fullmatch(name):
        raise TaskError(f"{what} name {name!r} is not acceptable: use 1 to 32 of a-z, 0-9 and -, for example liver-ct")


def definition_to_data(definition: TaskDefinition) -> dict[str, Any]:
    """Return the definition as JSON knows it."""
    document = _DefinitionDocument(
        schema_version=1,
        name=definition.name,
        kind=definition.kind,
        description=definition.description,
        labels=definition.labels,
        rules=tuple(rule_to_data(rule) for rule in definition.rules),
        settings=definition.settings,
    )
    return document.model_dump(mode="json")


def definition_from_data(data: Mapping[str, Any], source: str) -> TaskDefinition:
    """Read what `definition_to_data` writes; `source` names it in the error.

    Raises
    ------
    TaskError
        A key is unknown, missing or not acceptable, or another version of this package wrote it.
    """
    if data.get("schema_version") != 1:
        raise TaskError(
            f"{source}: schema_version is {data.get('schema_version')!r}, this version reads 1: "
            "use the fewshot-node that wrote it"
        )
    try:
        document = _DefinitionDocument.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(detail) for detail in error.errors())
        raise TaskError(f"{source}: {problems}: correct or remove the key") from error
    return TaskDefinition(
        name=document.name,
        kind=document.kind,
        labels=document.labels,
        rules=tuple(rule_from_data(rule) for rule in document.rules),
        settings=document.settings,
        description=document.description,
    )


def _explain(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    unknown = detail["type"] in {"extra_forbidden", "unexpected_keyword_argument"}
    return f"unknown key {key}" if unknown else f"{key}: {detail['msg']}"
