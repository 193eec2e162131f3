"""The conformance statement, as a reader of the README has it, held against running associations.

The Markdown is parsed here; none of the tables that it is written from is looked at.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.pdu import A_ASSOCIATE_RJ

from fewshot_node.cli.conformance import BEGIN, END
from fewshot_node.config import CommitmentSettings, NodeSettings, PacsSettings, ReceiveSettings
from fewshot_node.dicom import send
from fewshot_node.dicom.commitment.desk import CommitmentDesk
from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.dicom.spool import Spool
from fewshot_node.dicom.statement import conformance_statement
from tests.dicom.conftest import Intake, Sender

README = Path(__file__).parents[2] / "README.md"
COMMITMENT, VERIFICATION = "1.2.840.10008.1.20.1", "1.2.840.10008.1.1"
MOST_CONTEXTS = 128

Contexts = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table of the statement, and the headings that it stands under."""

    section: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)


def published() -> str:
    """Give the statement as the README has it."""
    text = README.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    return text.partition(BEGIN)[2].partition(END)[0].strip("\n")


@pytest.fixture(scope="module")
def tables() -> list[Table]:
    found: list[Table] = []
    section, inside = "", False
    for line in published().splitlines():
        heading = re.match(r"### (.*)|<summary><b>(.*)</b>", line)
        section = (heading[1] or heading[2]) if heading else section
        cells = tuple(cell.strip() for cell in line.strip("|").split("|"))
        if not line.startswith("|"):
            inside = False
        elif not inside:
            found.append(Table(section, cells))
            inside = True
        elif set(line) - set("|- "):
            found[-1].rows.append(cells)
    return found


def of(tables: list[Table], section: str, *header: str) -> list[tuple[str, ...]]:
    """Give the rows of all tables of a section whose headers begin so."""
    rows = [
        table.rows for table in tables if table.section.startswith(section) and table.header[: len(header)] == header
    ]
    assert rows, f"no table {header} in {section}"
    return [row for some in rows for row in some]


@pytest.fixture(scope="module")
def stated_classes(tables: list[Table]) -> dict[str, tuple[str, str]]:
    """SOP Class UID -> (SCU, SCP)."""
    return {uid: (scu, scp) for _, uid, scu, scp in of(tables, "1.1", "SOP class", "UID", "SCU", "SCP")}


@pytest.fixture(scope="module")
def stated_syntaxes(tables: list[Table]) -> list[str]:
    return [uid for _, uid in of(tables, "1.2", "Transfer syntax", "UID")]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A receiver as the node runs it, with storage commitment."""
    settings = ReceiveSettings(host="127.0.0.1", port=0, min_free_mb=0, reject_below_free_mb=0)
    spool, ledger = Spool(tmp_path / "spool"), Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    desk = CommitmentDesk(tmp_path / "commitments", spool, CommitmentSettings(), settings.ae_title)
    with desk, Receiver(settings, spool, ledger, desk) as receiver:
        yield receiver.port
    ledger.dispose()


def propose(port: int, wanted: Contexts) -> tuple[set[tuple[str, str]], Any]:
    """Propose each pair in a context of its own; give the accepted ones and the last association."""
    accepted: set[tuple[str, str]] = set()
    association: Any = None
    for start in range(0, len(wanted), MOST_CONTEXTS):
        contexts = [build_context(*pair) for pair in wanted[start : start + MOST_CONTEXTS]]
        association = AE("SCANNER").associate("127.0.0.1", port, contexts=contexts, ae_title="FEWSHOT")
        assert association.is_established
        accepted |= {(str(one.abstract_syntax), str(one.transfer_syntax[0])) for one in association.accepted_contexts}
        association.release()
    return accepted, association


def uids_of_kind(kind: str) -> set[str]:
    return {uid for uid, entry in UID_dictionary.items() if entry[1] == kind}


def test_the_readme_has_the_statement_of_this_code() -> None:
    assert published() == conformance_statement(), "README.md is out of date: run `make conformance`"


def test_the_receiver_accepts_the_stated_sop_classes_and_no_other_that_the_standard_has(
    port: int, stated_classes: dict[str, tuple[str, str]]
) -> None:
    stated = {uid for uid, (_, scp) in stated_classes.items() if scp == "yes"}
    everything = uids_of_kind("SOP Class") | uids_of_kind("Meta SOP Class") | set(stated_classes)
    assert len(everything - stated) > 50
    wanted = [(uid, str(ExplicitVRLittleEndian)) for uid in sorted(everything)]
    accepted, _ = propose(port, wanted)
    assert {uid for uid, _ in accepted} == stated


def test_the_receiver_accepts_the_stated_transfer_syntaxes_and_no_other_that_the_standard_has(
    port: int, stated_syntaxes: list[str]
) -> None:
    everything = sorted(uids_of_kind("Transfer Syntax") | set(stated_syntaxes))
    assert set(everything) - set(stated_syntaxes)
    accepted, _ = propose(port, [(str(CTImageStorage), syntax) for syntax in everything])
    assert {syntax for _, syntax in accepted} == set(stated_syntaxes)


def test_every_storage_class_is_accepted_in_every_stated_transfer_syntax(
    port: int, tables: list[Table], stated_syntaxes: list[str]
) -> None:
    _, storage = (table.rows for table in tables if table.section.startswith("1.1"))
    pairs = [(row[1], syntax) for row in storage for syntax in stated_syntaxes]
    assert len(pairs) > 5000
    accepted, _ = propose(port, pairs)
    assert accepted == set(pairs)


def test_verification_and_commitment_are_accepted_in_the_stated_native_syntaxes_only(
    port: int, stated_syntaxes: list[str]
) -> None:
    pairs = [(uid, syntax) for uid in (VERIFICATION, COMMITMENT) for syntax in stated_syntaxes]
    accepted, _ = propose(port, pairs)
    sentence = re.search(r"Verification and storage commitment are accepted in (.*?) and (.*?)\.", published())
    assert sentence is not None
    assert {UID(syntax).name for _, syntax in accepted} == set(sentence.groups())
    assert len(accepted) == 4


def test_the_receiver_tells_the_stated_parameters(port: int, tables: list[Table]) -> None:
    _, association = propose(port, [(VERIFICATION, "1.2.840.10008.1.2")])
    stated = dict(of(tables, "6.1", "Parameter", "Value"))
    acceptor = association.acceptor
    assert acceptor.implementation_class_uid == stated["Implementation Class UID"]
    assert acceptor.implementation_version_name == stated["Implementation Version Name"]
    assert str(acceptor.maximum_length) == stated["Maximum PDU length received"].split()[0]
    assert association.requestor.primitive.application_context_name == stated["Application Context Name"]
    assert acceptor.asynchronous_operations == (1, 1)  # what is assumed when nothing is negotiated


def test_the_client_tells_the_stated_parameters(tables: list[Table], free_port: Callable[[], int]) -> None:
    seen: list[Any] = []
    archive = AE("ARCHIVE")
    archive.add_supported_context(VERIFICATION)
    listening = free_port()
    handlers = [(evt.EVT_ESTABLISHED, lambda event: seen.append(event.assoc.requestor))]
    server = archive.start_server(("127.0.0.1", listening), block=False, evt_handlers=handlers)
    try:
        send.echo(PacsSettings(ae_title="ARCHIVE", port=listening))
    finally:
        server.shutdown()
    stated = dict(of(tables, "6.2", "Parameter", "Value"))
    assert seen[0].implementation_class_uid == stated["Implementation Class UID"]
    assert seen[0].implementation_version_name == stated["Implementation Version Name"]
    assert str(seen[0].maximum_length) == stated["Maximum PDU length received"]
    proposed = next(row for row in of(tables, "4.6", "SOP class") if row[0].startswith("Verification"))
    syntaxes = [
        UID(syntax).name for syntax in seen[0].primitive.presentation_context_definition_list[0].transfer_syntax
    ]
    assert "; ".join(syntaxes) == proposed[1]


@pytest.mark.parametrize(
    ("reason", "changes", "called"),
    [
        ("called AE title", {}, "OTHER"),
        ("calling AE title", {"calling_ae_titles": ("CT1",)}, "FEWSHOT"),
        ("nearly full", {"reject_below_free_mb": 2**40}, "FEWSHOT"),
        ("associations as are allowed", {"max_associations": 1}, "FEWSHOT"),
        ("one peer may", {"max_associations_per_peer": 1}, "FEWSHOT"),
    ],
)
def test_a_rejection_has_the_stated_codes(
    start_intake: Callable[..., Intake], tables: list[Table], reason: str, changes: dict[str, Any], called: str
) -> None:
    intake = start_intake(**changes)
    first = AE("SCANNER").associate(
        "127.0.0.1", intake.receiver.port, contexts=[build_context(VERIFICATION)], ae_title="FEWSHOT"
    )
    received: list[Any] = []  # of a quick rejection `is_rejected` may not tell: see `associate`
    AE("SCANNER").associate(
        "127.0.0.1",
        intake.receiver.port,
        contexts=[build_context(VERIFICATION)],
        ae_title=called,
        evt_handlers=[(evt.EVT_PDU_RECV, lambda event: received.append(event.pdu))],
    )
    if first.is_established:
        first.release()
    (answer,) = received
    assert isinstance(answer, A_ASSOCIATE_RJ)
    codes = tuple(str(code) for code in (answer.result, answer.source, answer.reason_diagnostic))
    stated = [row for row in of(tables, "6.1", "Reason", "Result", "Source") if reason in row[0]]
    assert [row[1:4] for row in stated] == [codes]


def test_answers_to_c_store_are_the_stated_ones(
    start_intake: Callable[..., Intake],
    connect: Callable[..., Sender],
    make_instance: Callable[..., Any],
    encode_instance: Callable[..., bytes],
    tables: list[Table],
) -> None:
    stated = {row[2]: row for row in of(tables, "4.2", "Service status")}
    sender = connect(start_intake().receiver.port)
    uid = make_instance(1).SOPInstanceUID
    answers = {
        "is on the disk": sender.store(make_instance(1)),
        "another data set": sender.store(make_instance(1, InstanceNumber=77)),
        "of command and data set differ": sender.store_raw(f"{uid}.9", encode_instance(make_instance(1))),
        "cannot be parsed": sender.store_raw(uid, b"\xff" * 100),
    }
    for condition, status in answers.items():
        assert condition in stated[f"{status:04X}"][3]
    kinds = {0x0: "Success", 0xB: "Warning", 0xA: "Failure", 0xC: "Failure"}
    assert {f"{status:04X}": kinds[status >> 12] for status in answers.values()}.items() <= {
        code: row[0] for code, row in stated.items()
    }.items()


def test_every_setting_of_the_dicom_side_is_listed_with_its_default(tables: list[Table]) -> None:
    stated = {row[0].strip("`"): row[2].strip("`") for row in of(tables, "5", "Parameter", "Values", "Default")}
    settings = NodeSettings()
    wanted = ("receive", "commitment", "retention", "monitor", "pull", "pacs", "delivery")
    for section in wanted:
        for key, value in getattr(settings, section):
            below = [name for name in stated if name.startswith(f"{section}.{key}.")]
            if below:  # a section of its own
                continue
            default = stated[f"{section}.{key}"]
            if isinstance(value, bool | int | float | str):
                assert default == str(value).lower() or default == str(value)
            else:
                assert default == ("none" if value is None else ", ".join(value) if value else "empty")
    assert {name.split(".")[0] for name in stated} == set(wanted)
    deeper = {"receive.tls.certificate", "commitment.peers.<AE title>.port", "delivery.destinations.<name>.url"}
    assert deeper <= set(stated)


def test_an_unknown_key_in_the_list_would_be_refused(tables: list[Table]) -> None:
    names = [row[0].strip("`") for row in of(tables, "5", "Parameter") if "<" not in row[0] and ".tls." not in row[0]]
    for name in names:
        section, _, key = name.partition(".")
        assert key in type(getattr(NodeSettings(), section)).model_fields


def test_the_tables_are_parsed_at_all(tables: list[Table]) -> None:
    sections = {table.section.split()[0] for table in tables}
    assert sections >= {"1.1", "1.2", "3", "4.2", "4.4", "4.5", "4.6", "5", "6.1", "6.2", "7", "8", "8.1", "8.2"}


def test_what_the_readme_folds_is_closed_again() -> None:
    assert published().count("<details>") == published().count("</details>") == published().count("<summary>") == 8
