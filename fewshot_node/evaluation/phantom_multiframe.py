"""A phantom's series as one multi-frame instance, the way newer scanners and archives hand it over."""

from pathlib import Path

from highdicom.legacy import LegacyConvertedEnhancedCTImage, LegacyConvertedEnhancedMRImage
from pydicom import dcmread

from fewshot_node.evaluation.phantom_series import PhantomSeries
from fewshot_node.uids import derive_uid


def write_multiframe(series: PhantomSeries, path: Path) -> PhantomSeries:
    """Convert single-frame instances to one Legacy Converted Enhanced CT or MR instance (PS3.3 A.70, A.71).

    The study and the frame of reference stay the same; the series is a new one.
    """
    sources = [dcmread(file) for file in series.files]
    is_ct = sources[0].Modality == "CT"
    convert = LegacyConvertedEnhancedCTImage if is_ct else LegacyConvertedEnhancedMRImage
    series_uid = derive_uid("phantom-multiframe-series", series.series_instance_uid)
    converted = convert(
        legacy_datasets=sources,
        series_instance_uid=series_uid,
        series_number=2,
        sop_instance_uid=derive_uid("phantom-multiframe-instance", series.series_instance_uid),
        instance_number=1,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    converted.save_as(path)
    return PhantomSeries(path.parent, series.study_instance_uid, series_uid, (path,))
