"""``fewshot-node pull`` as an operator runs it, in front of an archive and a receiver."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import evt

from fewshot_node.config import load_settings
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.node import open_node
from tests.cli.conftest import Printed
from tests.dicom.archive import Archive, archive

Run = Callable[..., Printed]
ROOT = "1.2.826.0.1.3680043.8.498.41"
STUDY = f"{ROOT}.1"
SERIES = f"{ROOT}.2"


def instance(number: int, series_uid: str = SERIES) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"{series_uid}.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, series_uid
    dataset.Modality, dataset.StudyDate = "CT", "20260105"
    dataset.PatientName, dataset.PatientID = "SECRET^PERSON", "SECRET-ID"
    dataset.SeriesDescription = "SECRET SERIES"
    dataset.BitsAllocated, dataset.PixelRepresentation = 16, 0
    dataset.PixelData = bytes(1000)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


@pytest.fixture
def peer() -> Iterator[Archive]:
    with archive(Archive([instance(1), instance(2), instance(1, f"{ROOT}.3")])) as running:
        yield running


@pytest.fixture
def node(home: Path, peer: Archive, free_port: Callable[[], int]) -> Path:
    """Settings of a node whose PACS is the archive; nothing runs."""
    home.write_text(
        f'home = "home"\n[receive]\nhost = "127.0.0.1"\nport = {free_port()}\n'
        'min_free_mb = 0\nreject_below_free_mb = 0\n[pull]\nby = "get"\nseries_per_minute = 100000\n'
        f'[pacs]\nae_title = "ARCHIVE"\nport = {peer.port}\ntimeout_s = 5\nbackoff_s = 0.01\n'
    )
    return home


@pytest.fixture
def receiver(node: Path) -> Iterator[Receiver]:
    opened = open_node(load_settings(node))
    with Receiver(opened.settings.receive, opened.spool, opened.ledger) as running:
        yield running


def test_a_dry_run_shows_the_plan_and_fetches_nothing(run: Run, node: Path, peer: Archive) -> None:
    printed = run("pull", "--query", "StudyDate=20260101-20260131", "--dry-run")
    assert printed.status == 0
    assert [line.split()[1::2][:3] for line in printed.out.splitlines() if SERIES in line]
    assert "2 series of 1 studies, 3 instances; nothing was fetched" in printed.out
    assert peer.retrievals == 0
    assert "SECRET" not in printed.out + printed.error


def test_a_pull_says_what_came_of_each_series_and_again_skips(run: Run, node: Path, receiver: Receiver) -> None:
    printed = run("pull", "--study", STUDY)
    assert printed.status == 0, printed
    assert f"CT {SERIES} retrieved, 2 instances" in printed.out
    assert "2 series retrieved, 0 skipped, 0 failed; see `fewshot-node series list`" in printed.out
    again = run("pull", "--study", STUDY)
    assert again.status == 0
    assert "0 series retrieved, 2 skipped, 0 failed" in again.out
    assert SERIES in run("series", "list").out
    assert "SECRET" not in printed.out + printed.error + again.out + again.error


def test_a_failure_is_listed_and_is_the_exit_status(run: Run, node: Path, peer: Archive, receiver: Receiver) -> None:
    def fail_one(event: evt.Event, _times: int) -> Iterator[Any]:
        if event.identifier.SeriesInstanceUID == SERIES:
            raise RuntimeError
        yield 1
        yield 0xFF00, peer.datasets[2]

    peer.reply = fail_one
    printed = run("pull", "--study", STUDY)
    assert printed.status == 1
    assert "1 series retrieved, 0 skipped, 1 failed" in printed.out
    assert f"{SERIES} failed: PACS ARCHIVE" in printed.out
    assert "Traceback" not in printed.error


def test_only_one_series_and_one_modality(run: Run, node: Path, peer: Archive, receiver: Receiver) -> None:
    assert "1 series retrieved" in run("pull", "--study", STUDY, "--series", f"{ROOT}.3").out
    assert "0 series retrieved" in run("pull", "--study", STUDY, "--modality", "mr").out
    assert peer.retrievals == 1


def test_a_list_of_studies_may_have_remarks(run: Run, node: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"# wanted\n\n{STUDY}\n{STUDY}\n", encoding="utf-8-sig")
    assert "2 series of 1 studies" in run("pull", "--from-file", path, "--dry-run").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "whole archive"),
        (["--modality", "CT"], "whole archive"),
        (["--query", "Modality=CT"], "whole archive"),
        (["--query", "StudyDescription=*"], "whole archive"),
        (["--query", "StudyDat=20260101"], "did you mean StudyDate"),
        (["--query", "PatientID=4711"], "identifies a person"),
        (["--study", "4711-A"], "--study is no UID"),
        (["--series", "4711-A"], "--series is no UID"),
        (["--study", STUDY, "--query", "StudyDate=20260101"], "at once"),
        (["--from-file", "absent.txt"], "absent.txt"),
        (["--study", "1.2.3"], "start it with `fewshot-node serve`"),
    ],
)
def test_refusals_name_the_remedy(run: Run, node: Path, arguments: list[str], message: str) -> None:
    printed = run("pull", *arguments)
    assert printed.status != 0
    assert message in printed.error
    assert "4711" not in printed.error
    assert "Traceback" not in printed.error


def test_a_list_that_is_none_is_refused_by_line(run: Run, node: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{STUDY}\nSECRET-ID\n")
    printed = run("pull", "--from-file", path)
    assert printed.status != 0
    assert "line 2 is no UID" in printed.error
    assert "SECRET" not in printed.error
    path.write_bytes(b"\xff\xfe\x00")
    assert "no text in UTF-8" in run("pull", "--from-file", path).error
    path.write_text("# nothing\n")
    assert "names no study" in run("pull", "--from-file", path).error


def test_a_pacs_that_is_down_is_one_message(
    run: Run, home: Path, node: Path, receiver: Receiver, free_port: Callable[[], int], peer: Archive
) -> None:
    home.write_text(home.read_text().replace(f"port = {peer.port}", f"port = {free_port()}"))
    printed = run("pull", "--study", STUDY)
    assert printed.status == 1
    assert "does not answer: check that it runs, and pacs.host and pacs.port" in printed.error
    assert "Traceback" not in printed.error


def test_ctrl_c_says_what_is_left_and_exits_130(node: Path, peer: Archive, receiver: Receiver) -> None:
    begun, ended = threading.Event(), threading.Event()

    def slow(event: evt.Event, _times: int) -> Iterator[Any]:
        yield 2
        begun.set()
        while not event.is_cancelled:
            if ended.wait(0.02):
                return
        peer.cancelled.set()
        yield 0xFE00, None

    peer.reply = slow
    command = [sys.executable, "-m", "fewshot_node", "--config", str(node), "pull", "--study", STUDY]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    try:
        while not begun.wait(0.1):
            assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    finally:
        ended.set()
        process.kill()
        process.wait()
    assert process.returncode == 130, error
    assert "0 series retrieved, 0 skipped, 0 failed, 2 left" in out
    assert "the same command goes on from here" in out
    assert "Traceback" not in error
    assert peer.cancelled.wait(10), "no C-CANCEL came"
