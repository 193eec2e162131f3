"""Looks: the scale that encoders see, materials told apart, and variety."""

import torch

from fewshot_node.pretrain.anatomy import MAX_STRUCTURES
from fewshot_node.pretrain.appearance import paint, related_looks, sample_looks

SIDE, BATCH = 96, 24


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def halves() -> torch.Tensor:
    """Material 1 on the left, 2 on the right, 0 on top."""
    materials = torch.ones(BATCH, SIDE, SIDE, dtype=torch.int64)
    materials[:, :, SIDE // 2 :] = 2
    materials[:, : SIDE // 4] = 0
    return materials


def test_images_lie_on_zero_to_one_and_use_it() -> None:
    images = paint(halves(), sample_looks(BATCH, generator()), generator(1))
    assert images.shape == (BATCH, 1, SIDE, SIDE)
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.flatten(1).std(dim=1).min() > 1e-3


def test_a_clear_contrast_survives_noise_and_bias() -> None:
    looks = sample_looks(BATCH, generator())
    looks.mean[:, 1], looks.mean[:, 2] = 0.2, 0.8
    images = paint(halves(), looks, generator(1))[:, 0, SIDE // 2 :]
    gap = images[..., SIDE // 2 + 8 :].mean(dim=(1, 2)) - images[..., : SIDE // 2 - 8].mean(dim=(1, 2))
    # All but the few inverted images.
    assert (gap > 0.2).float().mean() > 0.85


def test_both_modalities_occur_and_related_looks_stay_close() -> None:
    looks = sample_looks(200, generator())
    assert 0.25 < looks.is_ct.float().mean() < 0.55
    assert looks.mean.shape == (200, MAX_STRUCTURES)
    related = related_looks(looks, generator(1), redrawn_share=0.0)
    assert (related.mean - looks.mean).abs().max() < 0.4
    assert not torch.equal(related.mean, looks.mean)
    assert torch.equal(related.texture, looks.texture)
    redrawn = related_looks(looks, generator(1), redrawn_share=1.0)
    assert (redrawn.mean - looks.mean).abs().mean() > 0.1


def test_a_seed_fixes_the_images() -> None:
    looks = sample_looks(BATCH, generator())
    first, again, other = (paint(halves(), looks, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
