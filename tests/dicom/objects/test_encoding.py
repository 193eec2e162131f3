import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from fewshot_node.dicom.objects.encoding import write_object
from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.dicom.objects.sr import write_report
from tests.dicom.objects.test_seg_kinds import KINDS, of_kind

Write = Callable[..., list[Path]]


def by_pydicom(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("charset", [None, "ISO_IR 100", "ISO_IR 192", ["ISO 2022 IR 6", "ISO 2022 IR 87"]])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_are_those_of_pydicom(
    write_series: Write, spec: Any, make_case: Any, tmp_path: Path, kind: str, charset: Any
) -> None:
    name = "Yamada^Tarou=山田^太郎" if "87" in str(charset) else "Müller^Jörg" if charset else "Doe^Jane"
    changes = {"SpecificCharacterSet": charset, "PatientName": name}
    case = of_kind(make_case(write_series(spec, changes=changes)), kind)
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    expected = by_pydicom(segmentation)
    write_object(tmp_path / "seg.dcm", segmentation)
    assert (tmp_path / "seg.dcm").read_bytes() == expected
    assert by_pydicom(segmentation) == expected  # writing changes nothing


def test_frames_of_other_programs_and_reports_too(
    write_series: Write, any_spec: Any, make_case: Any, tmp_path: Path
) -> None:
    files = write_series(any_spec)
    case = make_case(files)
    report = write_report(case.result, case.volume, case.sources, case.uids)
    for dataset in (report, pydicom.dcmread(files[0])):
        write_object(tmp_path / "object.dcm", dataset)
        assert (tmp_path / "object.dcm").read_bytes() == by_pydicom(dataset)


def test_other_syntaxes_are_left_to_pydicom(write_series: Write, spec: Any, make_case: Any, tmp_path: Path) -> None:
    case = make_case(write_series(spec))
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    segmentation.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    write_object(tmp_path / "seg.dcm", segmentation)
    assert (tmp_path / "seg.dcm").read_bytes() == by_pydicom(segmentation)
