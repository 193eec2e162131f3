from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from fewshot_node.dicom.objects.headers import series_in_folder
from fewshot_node.errors import SeriesError, TaskError, TemplateError
from fewshot_node.records import TaskKind
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.template_store import load_template, save_template, template_names
from fewshot_node.tasks.templates import Template, read_template

ALL = TemplateSelection(indices=tuple(range(20)))


@pytest.fixture
def template(example, nifti: Path, definition: TaskDefinition) -> Template:
    return read_template(example.files, nifti, definition)


def test_nifti_template_holds_the_series_own_slices(example, nifti: Path, definition: TaskDefinition) -> None:
    template = read_template(example.files, nifti, definition, ALL)
    np.testing.assert_array_equal(template.label_map, example.labels)
    np.testing.assert_array_equal(template.array, example.array)
    assert template.modality == "CT"
    assert template.orientation == "axial"
    assert template.spacing_mm == pytest.approx((2.5, 0.8, 0.9))
    assert template.series_instance_uid == example.series_instance_uid
    written = [str(pydicom.dcmread(file).SOPInstanceUID) for file in example.files]
    assert list(template.instance_uids) == written


def test_only_needed_slices_are_kept(template: Template, example) -> None:
    assert template.label_values == (1, 3)
    assert template.annotated_slices == 5
    assert 5 < len(template.array) <= 8
    np.testing.assert_array_equal(template.array, example.array[list(template.slice_indices)])
    np.testing.assert_array_equal(template.label_map, example.labels[list(template.slice_indices)])


@pytest.mark.parametrize(
    "segments",
    [
        [("Liver", codes.SCT.Liver), ("Spleen", codes.SCT.Spleen)],
        [("liver", codes.SCT.Tissue), ("SPLEEN", codes.SCT.Tissue)],
        [("Organ A", codes.SCT.Liver), ("Organ B", codes.SCT.Spleen)],
    ],
    ids=["both", "by name", "by type"],
)
def test_segments_become_the_labels_they_mean(
    tmp_path: Path,
    example,
    save_seg: Callable[..., Path],
    definition: TaskDefinition,
    segments: list[tuple[str, object]],
) -> None:
    numbered = np.where(example.labels == 3, 2, example.labels).astype(np.uint8)
    path = save_seg(tmp_path / "seg.dcm", example, numbered, segments)
    template = read_template(example.files, path, definition, ALL)
    np.testing.assert_array_equal(template.label_map, example.labels)


def test_swapped_segment_numbers_do_not_swap_organs(
    tmp_path: Path, example, save_seg: Callable[..., Path], definition: TaskDefinition
) -> None:
    numbered = np.select([example.labels == 1, example.labels == 3], [2, 1], 0).astype(np.uint8)
    segments = [("Spleen", codes.SCT.Spleen), ("Liver", codes.SCT.Liver)]
    path = save_seg(tmp_path / "seg.dcm", example, numbered, segments)
    np.testing.assert_array_equal(read_template(example.files, path, definition, ALL).label_map, example.labels)


def test_unknown_segment_is_refused_and_can_be_mapped(
    tmp_path: Path, example, save_seg: Callable[..., Path], definition: TaskDefinition
) -> None:
    numbered = np.where(example.labels == 3, 2, example.labels).astype(np.uint8)
    path = save_seg(tmp_path / "seg.dcm", example, numbered, [("Liver", codes.SCT.Liver), ("Foo", codes.SCT.Pancreas)])
    with pytest.raises(TemplateError, match=r"2 \(Foo\).*--map 2=1"):
        read_template(example.files, path, definition, ALL)
    mapped = read_template(example.files, path, definition, replace(ALL, value_map={2: 3}))
    np.testing.assert_array_equal(mapped.label_map, example.labels)


def test_values_can_be_mapped_dropped_and_ignored(
    tmp_path: Path, example, save_nifti: Callable[..., Path], definition: TaskDefinition
) -> None:
    labels = example.labels.copy()
    labels[9, 18:22, 10:14] = 2
    labels[:, 0, 0] = 7
    path = save_nifti(tmp_path / "l.nii", labels, example.affine)
    with pytest.raises(TemplateError, match=r"values 2, 7, which task organs does not know \(it knows 1=Liver, 3="):
        read_template(example.files, path, definition)
    mapped = read_template(example.files, path, definition, replace(ALL, value_map={2: 1, 7: 0}))
    np.testing.assert_array_equal(mapped.label_map, example.labels)
    ignored = read_template(example.files, path, definition, replace(ALL, ignore_others=True))
    np.testing.assert_array_equal(ignored.label_map, np.where(np.isin(labels, [2, 7]), 0, labels))


@pytest.mark.parametrize("value_map", [{2: 9}, {0: 1}])
def test_map_to_nowhere_is_refused(example, nifti: Path, definition: TaskDefinition, value_map: dict[int, int]) -> None:
    with pytest.raises(TemplateError, match="cannot be mapped"):
        read_template(example.files, nifti, definition, TemplateSelection(value_map=value_map))


def test_empty_labels_are_refused(
    tmp_path: Path, example, save_nifti: Callable[..., Path], definition: TaskDefinition
) -> None:
    path = save_nifti(tmp_path / "l.nii", np.zeros_like(example.labels), example.affine)
    with pytest.raises(TemplateError, match="marks nothing of 1=Liver, 3=Spleen"):
        read_template(example.files, path, definition)


def test_labels_of_another_grid_are_refused(
    tmp_path: Path, example, save_nifti: Callable[..., Path], definition: TaskDefinition
) -> None:
    moved = example.affine.copy()
    moved[:3, 3] += 3
    path = save_nifti(tmp_path / "l.nii", example.labels, moved)
    with pytest.raises(TemplateError, match=f"another grid than series {example.series_instance_uid}"):
        read_template(example.files, path, definition)


def test_segmentation_of_another_series_is_refused(
    tmp_path: Path,
    example,
    make_example: Callable[..., object],
    save_seg: Callable[..., Path],
    definition: TaskDefinition,
) -> None:
    other = make_example(seed=9)
    path = save_seg(tmp_path / "seg.dcm", other, (other.labels == 1).astype(np.uint8), [("Liver", codes.SCT.Liver)])
    with pytest.raises(TemplateError):
        read_template(example.files, path, definition)


@pytest.mark.parametrize("name", ["labels.nrrd", "labels.dcm", "labels.nii", "labels.nii.gz"])
def test_unreadable_label_file_is_refused(tmp_path: Path, example, definition: TaskDefinition, name: str) -> None:
    (tmp_path / name).write_bytes(b"NRRD0004\nnot really\n" * 20)
    with pytest.raises(TemplateError, match=name):
        read_template(example.files, tmp_path / name, definition)


def test_image_instead_of_labels_is_refused(example, definition: TaskDefinition) -> None:
    with pytest.raises(TemplateError, match="is CT Image Storage, no annotation: give a DICOM SEG"):
        read_template(example.files, example.files[0], definition)


def test_series_without_images_is_refused(
    tmp_path: Path, example, nifti: Path, save_seg: Callable[..., Path], definition: TaskDefinition
) -> None:
    path = save_seg(tmp_path / "seg.dcm", example, (example.labels == 1).astype(np.uint8), [("Liver", codes.SCT.Liver)])
    with pytest.raises(SeriesError, match="no image among the files"):
        read_template([path], nifti, definition)


@pytest.fixture
def landmarks(settings) -> TaskDefinition:
    labels = (parse_label("1=KPB", TaskKind.LANDMARKS), parse_label("2=KAL", TaskKind.LANDMARKS))
    return TaskDefinition("points", TaskKind.LANDMARKS, labels, settings=settings)


def test_points_count_within_the_template(tmp_path: Path, example, landmarks: TaskDefinition) -> None:
    (tmp_path / "p.json").write_text('{"KPB": [-1.5, 15.5, 110.0], "KAL": [3.0, 9.1, 130.0]}')
    template = read_template(example.files, tmp_path / "p.json", landmarks)
    assert template.label_values == (1, 2)
    assert template.annotated_slices == 2
    assert len(template.array) == 5
    origin, step = np.array([-15.0, 7.5, 100.0]), np.array([0.9, 0.8, 2.5])
    for point, expected_mm in zip(template.points, [(-1.5, 15.5, 110.0), (3.0, 9.1, 130.0)], strict=True):
        source = template.slice_indices[point.slice_index]
        np.testing.assert_allclose(origin + step * [point.column, point.row, source], expected_mm)
    assert not template.label_map.any()


def test_points_beside_chosen_slices_are_left_out(tmp_path: Path, example, landmarks: TaskDefinition) -> None:
    (tmp_path / "p.json").write_text('{"KPB": [-1.5, 15.5, 110.0], "KAL": [3.0, 9.1, 130.0]}')
    template = read_template(example.files, tmp_path / "p.json", landmarks, TemplateSelection(indices=(1, 4)))
    assert [(point.label_value, point.slice_index) for point in template.points] == [(1, 1)]


def test_kind_of_annotation_must_suit_the_task(
    tmp_path: Path, example, nifti: Path, definition: TaskDefinition, landmarks: TaskDefinition
) -> None:
    with pytest.raises(TemplateError, match="which learns landmarks: give points"):
        read_template(example.files, nifti, landmarks)
    (tmp_path / "p.json").write_text('{"Liver": [-1.5, 15.5, 110.0]}')
    with pytest.raises(TemplateError, match=r"holds 1 points and no structure: .* give labelled regions"):
        read_template(example.files, tmp_path / "p.json", definition)


def test_name_comes_from_the_content(template: Template, example, nifti: Path, definition: TaskDefinition) -> None:
    again = read_template(tuple(reversed(example.files)), nifti, definition)
    assert again.name == template.name
    assert read_template(example.files, nifti, definition, TemplateSelection(name="first")).name == "first"


def test_saved_template_comes_back_whole(tmp_path: Path, template: Template) -> None:
    save_template(template, tmp_path)
    assert template_names(tmp_path) == (template.name,)
    loaded = load_template(tmp_path, template.name)
    assert loaded.digest() == template.digest()
    np.testing.assert_array_equal(loaded.array, template.array)
    np.testing.assert_array_equal(loaded.label_map, template.label_map)
    np.testing.assert_array_equal(loaded.intensity_sample, template.intensity_sample)
    assert (loaded.points, loaded.slice_indices, loaded.orientation) == (
        template.points,
        template.slice_indices,
        template.orientation,
    )


def test_stored_template_names_nobody(tmp_path: Path, template: Template) -> None:
    save_template(template, tmp_path)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"Secret" not in content
    assert b"19500101" not in content


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\x80\x04\x95pickle"])
def test_damaged_template_is_refused(tmp_path: Path, template: Template, suffix: str, content: bytes) -> None:
    save_template(template, tmp_path)
    (tmp_path / f"{template.name}{suffix}").write_bytes(content)
    with pytest.raises(TaskError):
        load_template(tmp_path, template.name)


def test_altered_template_is_refused(tmp_path: Path, template: Template) -> None:
    save_template(template, tmp_path)
    path = tmp_path / f"{template.name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(TaskError, match="was altered"):
        load_template(tmp_path, template.name)


@pytest.mark.shared_data
def test_real_series_agrees_in_mm(shared_data: Path, tmp_path: Path) -> None:
    """Label centroids of real CT slices, from the NIfTI file's own affine and from the DICOM headers."""
    labels = tuple(parse_label(text) for text in ("1=Liver", "5=Spleen", "3=Left kidney", "4=Right kidney"))
    definition = TaskDefinition("abdomen", TaskKind.SEGMENTATION, labels)
    ((_, files),) = series_in_folder(shared_data / "series" / "ct-liver-3d").items()
    path = shared_data / "series" / "ct-liver-3d.labels.nii.gz"
    template = read_template(
        files, path, definition, TemplateSelection(value_map={2: 1}, ignore_others=True, annotated=5)
    )
    assert template.label_values == (1, 3, 4, 5)
    image = nib.load(path)
    stored = np.asarray(image.dataobj)
    headers = {str(header.SOPInstanceUID): header for header in map(pydicom.dcmread, files)}
    for place, uid in enumerate(template.instance_uids):
        header = headers[uid]
        x, y, z = (float(value) for value in header.ImagePositionPatient)
        down, across = (float(value) for value in header.PixelSpacing)
        index = round((z - image.affine[2, 3]) / image.affine[2, 2])
        for value in (1, 3, 4, 5):
            wanted = np.isin(stored[:, :, index], [1, 2] if value == 1 else [value])
            rows, columns = np.nonzero(template.label_map[place] == value)
            assert len(rows) == wanted.sum()
            if not len(rows):
                continue
            i, j = (axis.mean() for axis in np.nonzero(wanted))
            ras = image.affine @ [i, j, index, 1]
            expected_lps = [-ras[0], -ras[1], ras[2]]
            found_lps = [x + across * columns.mean(), y + down * rows.mean(), z]
            np.testing.assert_allclose(found_lps, expected_lps, atol=0.02)
