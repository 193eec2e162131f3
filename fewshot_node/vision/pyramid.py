"""Feature maps of several stages mixed into one."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class PyramidProjection(nn.Module):
    """All stages' maps, normalised over their channels, on the finest one's grid, mixed linearly."""

    def __init__(self, stage_channels: Sequence[int], embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        # One matrix a stage instead of one over the concatenation: the same sum, taken on the coarse grids.
        self.mix = nn.ModuleList(nn.Conv2d(width, embedding_dim, 1, bias=False) for width in stage_channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return ``(B, D, h, w)`` on the grid of the first of ``maps``.

        Parameters
        ----------
        maps
            ``(B, C, h, w)`` of each stage, the finest first, in the number and widths of the constructor.
        """
        size = maps[0].shape[-2:]
        total: Tensor | None = None
        for stage, mix in zip(maps, self.mix, strict=True):
            normed = functional.layer_norm(stage.permute(0, 2, 3, 1), stage.shape[1:2]).permute(0, 3, 1, 2)
            mixed = mix(normed)
            if mixed.shape[-2:] != size:
                mixed = functional.interpolate(mixed, size=size, mode="bilinear", align_corners=False)
            total = mixed if total is None else total + mixed
        if total is None:
            raise ValueError("a pyramid needs at least one feature map")
        return total
