import numpy as np

from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.tasks.diversity import slice_descriptor
from fewshot_node.vision.encode import EncodeSettings


def test_descriptors_tell_slices_apart_and_repeat(example, encoder) -> None:
    volume = read_volume(example.files)
    describe = slice_descriptor(volume, example.labels, encoder, EncodeSettings(input_px=64, precision="float32"))
    described = describe(np.array([2, 8, 9, 11]))
    assert described.shape == (4, 3 * encoder.embedding_dim)  # background and two labels
    background, liver, spleen = described.reshape(4, 3, -1).transpose(1, 0, 2)
    assert not liver[0].any()  # slice 2 shows no label
    assert not spleen[0].any()
    assert np.abs(background[0]).sum() > 0
    assert np.linalg.norm(described[1] - described[2]) < np.linalg.norm(described[0] - described[2])
    np.testing.assert_allclose(describe(np.array([9]))[0], described[2], atol=1e-3)
