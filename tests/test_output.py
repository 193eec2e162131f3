import pytest

from fewshot_node.errors import TaskError
from fewshot_node.output import OutputSettings


def test_the_usual_output_is_one_binary_segmentation() -> None:
    assert (
        str(OutputSettings())
        == "segmentation=binary empty_frames=omit overlay=none rtstruct=false presentation_state=false"
    )


def test_what_is_changed_changes_alone() -> None:
    changed = OutputSettings().changed(["segmentation=labelmap", " rtstruct = true "])
    assert changed == OutputSettings(segmentation="labelmap", rtstruct=True)
    assert changed.changed(["rtstruct=false"]) == OutputSettings(segmentation="labelmap")


@pytest.mark.parametrize(
    ("text", "named", "allowed"),
    [
        ("segmentation=surface", "'surface'", "binary, fractional, labelmap"),
        ("empty_frames=", "''", "omit, keep"),
        ("overlay=gsps", "'gsps'", "none, secondary-capture"),
        ("rtstruct=yes", "'yes'", "false, true"),
        ("format=binary", "output.format", "segmentation=binary|fractional|labelmap"),
        ("binary", "'binary' is not KEY=VALUE", "empty_frames=omit|keep"),
    ],
)
def test_what_is_unknown_is_named_with_what_is_allowed(text: str, named: str, allowed: str) -> None:
    with pytest.raises(TaskError) as refused:
        OutputSettings().changed([text])
    assert named in str(refused.value)
    assert allowed in str(refused.value)


def test_a_value_given_in_code_is_checked_too() -> None:
    with pytest.raises(TaskError, match=r"output.segmentation: 'surface' is unknown"):
        OutputSettings(segmentation="surface")  # type: ignore[arg-type]
