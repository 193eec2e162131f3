"""Random looks for label maps: intensities per material, texture, partial volume, bias field, gamma, noise.

What comes out is on the scale that real images have when they reach an encoder: CT is a soft-tissue window on
0..1 (narrow differences between organs, clipped bone and air), MR is the 0.5-99.5 percentile range on 0..1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fewshot_node.pretrain.anatomy import MAX_STRUCTURES

_TEXTURE_SCALES_PX = (1, 4, 16)
# Share of looks that are CT-like; the rest is MR-like.
_CT_SHARE = 0.4
# A component of CT's mixture of intensities on the window -160..240 HU: share, mean, standard deviation.
_CT_MIXTURE = ((0.15, 0.15, 0.05), (0.60, 0.57, 0.08), (0.17, 0.95, 0.15), (0.08, 0.0, 0.03))


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """How each material looks in each image of a batch.

    Attributes
    ----------
    mean
        Float ``(B, MAX_STRUCTURES)``; material 0 is what surrounds the body.
    texture
        Float ``(B, MAX_STRUCTURES, 3)``: amplitude at each scale.
    is_ct
        Bool ``(B,)``.
    """

    mean: Tensor
    texture: Tensor
    is_ct: Tensor


def sample_looks(batch: int, generator: torch.Generator) -> Looks:
    """Draw independent looks for ``batch`` images."""
    shape = (batch, MAX_STRUCTURES)
    is_ct = torch.rand(batch, generator=generator) < _CT_SHARE
    shares = torch.tensor([share for share, _, _ in _CT_MIXTURE])
    kind = torch.multinomial(shares, batch * MAX_STRUCTURES, replacement=True, generator=generator).view(shape)
    centres = torch.tensor([mean for _, mean, _ in _CT_MIXTURE])[kind]
    spreads = torch.tensor([spread for _, _, spread in _CT_MIXTURE])[kind]
    ct_mean = centres + spreads * torch.randn(shape, generator=generator)
    # Some MR images use few grey levels, so that neighbours are told apart by texture and place alone.
    levels = torch.randint(3, 24, (batch, 1), generator=generator)
    mr_mean = torch.floor(torch.rand(shape, generator=generator) * levels) / levels
    mr_mean = 0.05 + mr_mean + 0.02 * torch.randn(shape, generator=generator)
    mean = torch.where(is_ct[:, None], ct_mean, mr_mean)
    dark_outside = torch.rand(batch, generator=generator) < 0.85
    mean[:, 0] = torch.where(dark_outside, 0.0, mean[:, 0])
    strength = torch.where(is_ct, 0.06, 0.12)[:, None, None]
    texture = strength * torch.rand(*shape, len(_TEXTURE_SCALES_PX), generator=generator) ** 3
    texture[:, 0] = torch.where(dark_outside[:, None], 0.0, texture[:, 0])
    return Looks(mean, texture, is_ct)


def related_looks(looks: Looks, generator: torch.Generator, redrawn_share: float = 0.25) -> Looks:
    """Return looks for the second views: the same with jitter as another patient has, or wholly new ones.

    Within a task, template and query come from the same kind of scan: intensity is evidence, but not proof.
    """
    fresh = sample_looks(len(looks.mean), generator)
    redrawn = torch.rand(len(looks.mean), generator=generator) < redrawn_share
    spread = torch.where(looks.is_ct, 0.025, 0.06)[:, None] * torch.rand(len(redrawn), 1, generator=generator)
    jittered = looks.mean + spread * torch.randn(looks.mean.shape, generator=generator)
    jittered[:, 0] = looks.mean[:, 0]
    return Looks(
        torch.where(redrawn[:, None], fresh.mean, jittered),
        torch.where(redrawn[:, None, None], fresh.texture, looks.texture),
        torch.where(redrawn, fresh.is_ct, looks.is_ct),
    )


def _log_uniform(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    bounds = torch.tensor([low, high]).log()
    return (bounds[0] + (bounds[1] - bounds[0]) * torch.rand(count, generator=generator)).exp()


def _blur(images: Tensor, sigma_px: Tensor) -> Tensor:
    """Blur ``(B, H, W)`` with a Gaussian of its own for each image."""
    reach = 6
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets[None] / sigma_px[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    stack = functional.pad(images[None], (reach, reach, reach, reach), mode="replicate")
    stack = functional.conv2d(stack, kernel[:, None, None, :], groups=len(images))
    return functional.conv2d(stack, kernel[:, None, :, None], groups=len(images))[0]


def _smooth_noise(batch: int, side: int, scale_px: int, generator: torch.Generator) -> Tensor:
    nodes = max(2, side // scale_px)
    noise = torch.randn(batch, 1, nodes, nodes, generator=generator)
    if scale_px == 1:
        return noise[:, 0]
    return functional.interpolate(noise, size=(side, side), mode="bilinear", align_corners=True)[:, 0] * 1.3


def _shade(images: Tensor, is_ct: Tensor, generator: torch.Generator) -> Tensor:
    """Apply bias field, gamma and, rarely, inversion to ``(B, H, W)``."""
    batch, side = len(images), images.shape[-1]
    strength = torch.where(is_ct, 0.02, 0.25) * torch.rand(batch, generator=generator)
    bias = torch.exp(strength[:, None, None] * _smooth_noise(batch, side, side // 3, generator))
    gamma = torch.where(is_ct, 1.0, _log_uniform(generator, batch, 0.7, 1.4))
    images = (images * bias).clamp(min=1e-4) ** gamma[:, None, None]
    inverted = (torch.rand(batch, generator=generator) < 0.05)[:, None, None]
    return torch.where(inverted, 1 - images, images)


def _to_range(images: Tensor, is_ct: Tensor) -> Tensor:
    """Bring MR-like images to their percentile range, as at inference; clip all to 0..1."""
    sample = images[:, ::4, ::4].flatten(1)
    low, high = torch.quantile(sample, torch.tensor([0.005, 0.995]), dim=1)[..., None, None]
    ranged = (images - low) / (high - low).clamp(min=1e-3)
    return torch.where(is_ct[:, None, None], images, ranged).clamp(0, 1)


def paint(materials: Tensor, looks: Looks, generator: torch.Generator) -> Tensor:
    """Turn material maps into images.

    Parameters
    ----------
    materials
        int64 ``(B, side, side)``.
    looks
        The looks of the same batch.

    Returns
    -------
    Tensor
        Float ``(B, 1, side, side)`` in 0..1.
    """
    batch, side = len(materials), materials.shape[-1]
    flat = materials.flatten(1)
    images = looks.mean.gather(1, flat).view_as(materials).clone()
    for index, scale_px in enumerate(_TEXTURE_SCALES_PX):
        amplitude = looks.texture[..., index].gather(1, flat).view_as(images)
        images += amplitude * _smooth_noise(batch, side, scale_px, generator)
    noise = _log_uniform(generator, batch, 0.004, 0.10)[:, None, None]
    # Noise both before and after the blur: reconstruction and interpolation leave it correlated.
    images += noise * torch.randn(images.shape, generator=generator)
    images = _blur(images, _log_uniform(generator, batch, 0.4, 2.5))
    images = _shade(images, looks.is_ct, generator)
    images += 0.3 * noise * torch.randn(images.shape, generator=generator)
    return _to_range(images, looks.is_ct)[:, None]
