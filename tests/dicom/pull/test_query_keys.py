"""Keys as people type them."""

import pytest

from fewshot_node.dicom.pull.query_keys import parse_keys
from fewshot_node.errors import (
    ConfigurationError,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("StudyDat=20260101", "did you mean StudyDate"),
        ("modality=CT", "did you mean .*Modality"),
        ("PatientID=4711", "identifies a person.*--from-file"),
        ("PatientName=A*", "identifies a person"),
        ("AccessionNumber=4711", "identifies a person"),
        ("ReferringPhysicianName=A", "identifies a person"),
        ("SliceThickness=1", "no key of studies or series"),
        ("StudyDate=2026-01-01", "write 20260131, 20260101-20260131"),
        ("StudyDate=20261301", "no date"),
        ("StudyTime=25", "no date or time"),
        ("StudyInstanceUID=4711-A", "no UID"),
        ("SeriesNumber=one", "whole number"),
        ("StudyDescription=a\x00b", "not printable"),
        ("StudyDate", "without '='"),
    ],
)
def test_keys_that_cannot_be_asked_by(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        parse_keys([text])
    assert "4711" not in str(refused.value)


def test_keys_have_their_level() -> None:
    keys = parse_keys(["StudyDate=20260101-", "Modality=mr", "SeriesDescription=T2*", "StudyTime=-1200"])
    assert dict(keys.study) == {"StudyDate": "20260101-", "StudyTime": "-1200"}
    assert dict(keys.series) == {"Modality": "MR", "SeriesDescription": "T2*"}
    assert keys.narrows_studies
    assert not parse_keys(["StudyDate=", "StudyDescription=*", "Modality=CT"]).narrows_studies
    with pytest.raises(ConfigurationError, match=r"twice"):
        parse_keys(["Modality=CT", "Modality=MR"])
