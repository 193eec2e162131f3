"""What rules would have done to the series that came in lately, and what is odd about the rules of all tasks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from fewshot_node.dicom.objects.headers import holds_images, read_header
from fewshot_node.errors import PermanentError, RuleError
from fewshot_node.node import Node
from fewshot_node.tasks.attributes import SeriesFacts
from fewshot_node.tasks.candidates import Candidate
from fewshot_node.tasks.contradictions import contradiction
from fewshot_node.tasks.rule_groups import AnyRule, takes


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A series that came in, with what rules look at."""

    series_instance_uid: str
    facts: SeriesFacts


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """The series that came in lately.

    Attributes
    ----------
    images
        Those that rules can be asked about.
    removed
        How many have left the spool (retention).
    others
        How many hold no images, or none that can be read: no task takes them.
    """

    images: tuple[Arrival, ...]
    removed: int
    others: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What rules say about one series; None where a rule came to no verdict."""

    series_instance_uid: str
    before: bool | None
    after: bool | None


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two revisions that both take some of the series; `example` is one of these."""

    first: str
    second: str
    series: int
    example: str


@dataclass(frozen=True, slots=True)
class RoutingCheck:
    """What all rules say about the series that came in lately.

    Attributes
    ----------
    taken
        How many series each revision takes, by its title; None where its rules cannot be read.
    contradictions
        Why rules can never all hold, by title.
    """

    taken: Mapping[str, int | None]
    overlaps: tuple[Overlap, ...]
    contradictions: Mapping[str, str]


def recent_arrivals(node: Node, last: int) -> Arrivals:
    """Read the headers of the newest `last` series of the ledger, those heard of last first."""
    images: list[Arrival] = []
    removed = others = 0
    for entry in node.ledger.series(limit=last):
        uid = entry.key.series_instance_uid
        files = node.spool.series_files(uid)
        removed += not files
        try:
            if files and holds_images(files):
                images.append(Arrival(uid, SeriesFacts(read_header(files), entry.calling_ae_title)))
                continue
        except PermanentError:
            pass
        others += bool(files)
    return Arrivals(tuple(images), removed, others)


def replay(arrivals: Arrivals, before: Sequence[AnyRule] | None, after: Sequence[AnyRule]) -> tuple[Replayed, ...]:
    """Ask rules as they are and as they would be about every series; None before means that there were none."""
    return tuple(
        Replayed(one.series_instance_uid, verdict(before or (), one.facts), verdict(after, one.facts))
        for one in arrivals.images
    )


def verdict(rules: Sequence[AnyRule], facts: SeriesFacts) -> bool | None:
    """Whether rules take a series; None where one of them came to no verdict."""
    try:
        return takes(rules, facts)
    except RuleError:
        return None


def check_routing(arrivals: Arrivals, candidates: Sequence[Candidate]) -> RoutingCheck:
    """Ask the rules of all revisions that take series about every series that came in lately."""
    by_title = {title(one): one for one in candidates}
    hits = {name: _taken(one.rules, arrivals) for name, one in by_title.items() if one.rules is not None}
    said = {name: contradiction(one.rules) for name, one in by_title.items() if one.rules is not None}
    return RoutingCheck(
        taken={name: len(hits[name]) if name in hits else None for name in by_title},
        overlaps=tuple(_overlaps(hits, by_title)),
        contradictions={name: text for name, text in said.items() if text},
    )


def title(candidate: Candidate) -> str:
    """Name a revision for people."""
    return f"{candidate.name} revision {candidate.revision}{' (shadow)' if candidate.is_shadow else ''}"


def _taken(rules: Sequence[AnyRule], arrivals: Arrivals) -> dict[str, None]:
    """Return the series that rules take, in their order."""
    return {one.series_instance_uid: None for one in arrivals.images if verdict(rules, one.facts)}


def _overlaps(hits: Mapping[str, Mapping[str, None]], by_title: Mapping[str, Candidate]) -> Iterator[Overlap]:
    for first, second in combinations(hits, 2):
        if by_title[first].name == by_title[second].name:
            continue  # a shadow is meant to take what its live revision takes
        both = [uid for uid in hits[first] if uid in hits[second]]
        if both:
            yield Overlap(first, second, len(both), both[0])
