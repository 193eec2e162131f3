"""Reports of other programs, read by the code that reads ours: findings, and points and regions in mm."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest

from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.dicom.objects.sr import read_report, write_report
from fewshot_node.dicom.objects.sr_regions import ReportedSegment
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import TemplateError
from fewshot_node.records import Code, TaskKind

Write = Callable[..., list[Path]]


def test_a_region_on_an_image_that_is_not_at_hand_has_no_place(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec, frame_of_reference=False), TaskKind.LANDMARKS)
    report = write_report(case.result, case.volume, case.sources, case.uids)
    placed, unplaced = read_report(report, case.volume)[0], read_report(report)[0]
    assert (len(placed.regions[0].points_mm), len(unplaced.regions[0].points_mm)) == (1, 0)
    assert placed.regions[0].points_mm[0] == placed.point_mm
    assert unplaced.point_mm is None
    assert unplaced.regions[0].image_uid in {frame.sop_instance_uid for frame in case.volume.frames}


@pytest.mark.parametrize("slices", [1, 6])
def test_a_finding_leads_to_its_segment(write_series: Write, spec: Any, make_case: Any, slices: int) -> None:
    case = make_case(write_series(spec, slices=slices))
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    findings = read_report(write_report(case.result, case.volume, case.sources, case.uids, segmentation))
    by_name = {one.name: one for one in findings}
    assert by_name["abdomen spleen"].segment is None
    kidney = by_name["abdomen left kidney"]
    assert kidney.segment is not None
    assert kidney.segment.instance_uid == segmentation.SOPInstanceUID
    assert (kidney.segment.frame_number is None) is (slices > 1)
    assert (kidney.area_mm2 is None, kidney.volume_mm3 is None) == (slices > 1, slices == 1)
    assert kidney.finding == Code("64033007", "SCT", "Kidney")
    assert kidney.sites == (Code("818983003", "SCT", "Abdomen"),)


@pytest.mark.shared_data
def test_a_real_report_of_dcmqi_is_read(shared_data: Path) -> None:
    (tumour,) = read_report(shared_data / "dicom/dcmqi-seg/sr.dcm")
    assert (tumour.name, tumour.found, tumour.confidence) == ("primary tumor", True, None)
    assert tumour.volume_mm3 == pytest.approx(33582.4)  # dsrdump: 33.5824 ml
    assert tumour.finding == Code("M-80003", "SRT", "Neoplasm, Primary")
    assert [site.meaning for site in tumour.sites] == ["pharyngeal tonsil (adenoid)"]
    segmentation = pydicom.dcmread(shared_data / "dicom/dcmqi-seg/seg.dcm", stop_before_pixels=True)
    assert tumour.segment == ReportedSegment(segmentation.SOPInstanceUID, 1)


@pytest.mark.shared_data
def test_real_reports_of_highdicom_are_read_in_mm(shared_data: Path) -> None:
    folder = shared_data / "dicom/highdicom"
    image = pydicom.dcmread(folder / "ct_image.dcm")
    to_mm = hd.spatial.ImageToReferenceTransformer(
        image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing
    )
    volume = read_volume((folder / "ct_image.dcm",))
    (cord,) = read_report(folder / "sr_document.dcm", volume)
    nodule, aorta, vertebra, whole = read_report(folder / "sr_document_with_multiple_groups.dcm", volume)
    drawn = {  # dcmdump: (0070,0022) Graphic Data
        cord: ("CIRCLE", [[58, 52], [58, 41]]),
        nodule: ("CIRCLE", [[45, 55], [45, 65]]),
        aorta: ("POLYLINE", [[25, 45], [45, 45], [45, 65], [25, 65]]),
    }
    for finding, (kind, places) in drawn.items():
        (region,) = finding.regions
        assert (region.graphic_type, region.image_uid) == (kind, image.SOPInstanceUID)
        np.testing.assert_allclose(region.points_mm, to_mm(np.array(places, dtype=float)), atol=1e-3)
    np.testing.assert_allclose(vertebra.regions[0].points_mm, [[123.5, 234.1, -23.7]], atol=1e-3)
    assert vertebra.volume_mm3 == 200.0
    assert (whole.regions, whole.segment) == ((), None)
    assert [site.meaning for site in nodule.sites] == ["Lung"]


@pytest.mark.shared_data
def test_a_real_report_of_another_template_is_named(shared_data: Path) -> None:
    with pytest.raises(TemplateError, match="does not follow TID 1500"):
        read_report(shared_data / "dicom/fodicom/test_SR.dcm")
