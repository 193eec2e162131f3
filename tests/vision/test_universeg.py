"""UniverSeg's network and files: published names and shapes, the plain pairwise computation, and what is refused."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from fewshot_node.errors import CheckpointError
from fewshot_node.vision.universeg import EMBEDDED_UNIVERSEG, UniverSeg, UniverSegModel, load_universeg, save_universeg


def published_shapes():
    """Names and shapes of `universeg_v1_nf64_ss64_STA.pt`, as JJGO/UniverSeg's module tree makes them."""
    given = {f"enc_blocks.{level}": 3 if level == 0 else 128 for level in range(4)}
    given |= {f"dec_blocks.{level}": 256 for level in range(3)}
    shapes = {"out_conv.conv.weight": (1, 64, 1, 1), "out_conv.conv.bias": (1,)}
    for block, channels in given.items():
        shapes[f"{block}.cross.cross_conv.weight"] = (64, channels, 3, 3)
        for part in ("target", "support"):
            shapes[f"{block}.{part}.vmapped.conv.weight"] = (64, 64, 3, 3)
        for name in ("cross.cross_conv", "target.vmapped.conv", "support.vmapped.conv"):
            shapes[f"{block}.{name}.bias"] = (64,)
    return shapes


def pairwise(weights, levels, image, images, masks):
    """UniverSeg as the paper draws it, for one query: every example goes through a convolution with the query."""

    def block(name, query, examples):
        cross, bias = weights[f"{name}.cross.cross_conv.weight"], weights[f"{name}.cross.cross_conv.bias"]
        pairs = [functional.conv2d(torch.cat([query, one])[None], cross, bias, padding=1)[0] for one in examples]

        def own(part, features):
            conv = f"{name}.{part}.vmapped.conv"
            answer = functional.conv2d(features[None], weights[f"{conv}.weight"], weights[f"{conv}.bias"], padding=1)
            return functional.leaky_relu(answer[0], 0.01)

        return own("target", torch.stack(pairs).mean(0)), [own("support", pair) for pair in pairs]

    def double(features):
        return functional.interpolate(features[None], scale_factor=2, mode="bilinear", align_corners=True)[0]

    query, examples, kept = image, [torch.cat(pair) for pair in zip(images, masks, strict=True)], []
    for level in range(levels):
        query, examples = block(f"enc_blocks.{level}", query, examples)
        if level < levels - 1:
            kept.append((query, examples))
            query = functional.max_pool2d(query, 2)
            examples = [functional.max_pool2d(one, 2) for one in examples]
    for level in range(levels - 1):
        fine = kept.pop()
        query = torch.cat([double(query), fine[0]])
        examples = [torch.cat([double(one), skip]) for one, skip in zip(examples, fine[1], strict=True)]
        query, examples = block(f"dec_blocks.{level}", query, examples)
    return functional.conv2d(query[None], weights["out_conv.conv.weight"], weights["out_conv.conv.bias"])[0]


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return UniverSeg((4, 6, 8)).eval().requires_grad_(False)


@pytest.fixture
def asked():
    generator = torch.Generator().manual_seed(1)
    image, images = torch.rand(2, 1, 24, 16, generator=generator), torch.rand(2, 3, 1, 24, 16, generator=generator)
    return image, images, (torch.rand(images.shape, generator=generator) > 0.7).float()


def test_names_and_shapes_are_those_of_the_published_checkpoint():
    with torch.device("meta"):
        state = UniverSeg().state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == published_shapes()
    # The paper's 1.18 million.
    assert sum(value.numel() for value in state.values()) == 1_182_785


def test_the_factorised_computation_is_the_pairwise_one(small, asked):
    answer = small(*asked)
    assert answer.shape == (2, 1, 24, 16)
    for index in range(2):
        expected = pairwise(small.state_dict(), 3, *(part[index] for part in asked))
        torch.testing.assert_close(answer[index], expected, atol=1e-5, rtol=1e-4)


def test_the_order_of_examples_says_nothing_and_their_masks_do(small, asked):
    image, images, masks = asked
    order = [2, 0, 1]
    torch.testing.assert_close(small(image, images[:, order], masks[:, order]), small(*asked))
    assert not torch.allclose(small(image, images, 1 - masks), small(*asked))


def test_a_published_file_loads_at_its_own_size(tmp_path, small, asked):
    path = tmp_path / "universeg.pt"
    torch.save(small.state_dict(), path)
    model = load_universeg(path)
    assert (model.network.widths, model.image_px) == ((4, 6, 8), 128)
    assert torch.equal(model.network(*asked), small(*asked))


def test_a_folder_comes_back_as_it_was_written(tmp_path, small, asked):
    save_universeg(UniverSegModel(small, 48), tmp_path / "model")
    assert {value.dtype for value in load_file(tmp_path / "model" / "model.safetensors").values()} == {torch.float16}
    model = load_universeg(tmp_path / "model")
    assert model.image_px == 48
    torch.testing.assert_close(model.network(*asked), small(*asked), atol=2e-2, rtol=2e-2)


class Harmful:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("absent", "no such UniverSeg checkpoint"),
        ("program", "not readable as weights alone"),
        ("text", "not readable as weights alone"),
        ("wrapped", "not a plain mapping"),
        ("another network", "lacks enc_blocks"),
        ("one weight short", "1 weights do not fit UniverSeg, first out_conv.conv.bias"),
    ],
)
def test_a_file_that_is_no_universeg_is_refused_by_name(tmp_path, capsys, small, how, message):
    path = tmp_path / "rival.pt"
    content = small.state_dict()
    if how == "program":
        path.write_bytes(pickle.dumps(Harmful(), protocol=2))
    elif how == "text":
        path.write_text("<html>404</html>")
    elif how == "wrapped":
        torch.save({"state": content}, path)
    elif how == "another network":
        torch.save({"conv.weight": torch.zeros(1)}, path)
    elif how == "one weight short":
        del content["out_conv.conv.bias"]
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"rival.pt.*{message}"):
        load_universeg(path)
    assert capsys.readouterr().out == ""


def test_a_folder_without_its_description_or_weights_is_refused(tmp_path, small):
    save_universeg(UniverSegModel(small, 48), tmp_path)
    (tmp_path / "universeg.json").write_text(json.dumps({"image_px": "large"}))
    with pytest.raises(CheckpointError, match="image_px is 'large'"):
        load_universeg(tmp_path)
    (tmp_path / "universeg.json").write_text(json.dumps({"image_px": 48}))
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
        load_universeg(tmp_path)


def test_the_embedded_one_is_small_and_tells_what_it_learnt_from():
    model = load_universeg("embedded")
    assert model.image_px % model.network.multiple == 0
    assert sum(path.stat().st_size for path in EMBEDDED_UNIVERSEG.iterdir()) < 3e6
    assert "Held-out score" in (EMBEDDED_UNIVERSEG / "CARD.md").read_text()
