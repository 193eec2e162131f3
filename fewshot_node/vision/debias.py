"""What a network says about a place rather than about what is there: found on an image that shows nothing."""

import torch
from torch import Tensor
from torch.nn import functional


def positional_basis(features: Tensor, components: int) -> Tensor:
    """Return the directions in which an image without content varies.

    Parameters
    ----------
    features
        (1, D, h, w): of an image of one grey. Their mean is that grey, and content; what varies about it can
        only come from the place (method.md, step 2).
    components
        As many as the features allow are returned at most.

    Returns
    -------
    Tensor
        float32 (D, k), orthonormal; k is below `components` where the features vary in fewer directions.
    """
    flat = features.float().flatten(2)[0]
    left, strength, _ = torch.linalg.svd(flat - flat.mean(dim=1, keepdim=True), full_matrices=False)
    # Directions of rounding noise are none: a network without a positional part stays as it is.
    real = strength > 1e-3 * flat.norm()
    directions: Tensor = left[:, :components]
    return directions[:, real[:components]]


def project_out(features: Tensor, basis: Tensor) -> Tensor:
    """Remove the directions of a basis ``(D, directions)`` from BDhw: unit length over D again."""
    flat = features.flatten(2)
    without = flat - basis @ (basis.T @ flat)
    return functional.normalize(without, dim=1).reshape(features.shape)
