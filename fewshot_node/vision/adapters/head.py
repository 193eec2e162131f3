"""What heads over single pixels have in common, and the head of the contrastive adapter with its loss."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

POSITION_DIM = 2

_STORED = "head."
_TINY = 1e-9
_DIRECTIONS_FROM_PIXELS = 4096


class PixelHead(nn.Module):
    """A network over single pixels, features with the place behind them, that keeps the support's scale.

    Attributes
    ----------
    mean, scale
        float32 (input,): see `standardise`.
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(input_dim), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(input_dim), requires_grad=False)

    def standardise(self, pixels: Tensor) -> Tensor:
        """Bring raw inputs to the support's scale."""
        return (pixels - self.mean) * self.scale

    def take_scale(self, pixels: Tensor, position_weight: float) -> None:
        """Take mean and scale from the support's pixels (count, input)."""
        mean, scale = pixel_scale(pixels, position_weight)
        with torch.no_grad():
            self.mean.copy_(mean)
            self.scale.copy_(scale)


class MatchingHead(PixelHead):
    """g: standardised pixels to unit vectors, by a linear path beside a feed-forward one.

    The linear path starts as the support's principal directions, so that an untrained head compares the
    encoder's own features, and training only bends that comparison.
    """

    def __init__(self, input_dim: int, hidden_dim: int, embedding_dim: int) -> None:
        super().__init__(input_dim)
        self.linear = nn.Linear(input_dim, embedding_dim, bias=False)
        self.hidden = nn.Linear(input_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, embedding_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (..., input) as `standardise` gives it to (..., embedding) of unit length."""
        bent = self.out(functional.gelu(self.hidden(pixels)))
        return functional.normalize(self.linear(pixels) + bent, dim=-1)

    def start_from(self, pixels: Tensor, position_weight: float, generator: torch.Generator) -> None:
        """Take scale and principal directions from the support's pixels (count, input)."""
        self.take_scale(pixels, position_weight)
        with torch.no_grad():
            chosen = pixels[torch.randint(len(pixels), (_DIRECTIONS_FROM_PIXELS,), generator=generator)]
            _, _, directions = torch.linalg.svd(self.standardise(chosen), full_matrices=False)
            rank = min(len(directions), self.linear.out_features)
            self.linear.weight.zero_()
            self.linear.weight[:rank] = directions[:rank]
            start_layers((self.hidden, self.out), generator)
            self.out.weight.mul_(0.3)


def pixel_scale(pixels: Tensor, position_weight: float) -> tuple[Tensor, Tensor]:
    """Return mean and factor, each (input,), that standardise (count, input); the place is only weighted."""
    mean, scale = pixels.mean(dim=0), 1 / (pixels.std(dim=0) + 1e-6)
    mean[-POSITION_DIM:] = 0
    scale[-POSITION_DIM:] = position_weight
    return mean, scale


def start_layers(layers: Iterable[nn.Linear], generator: torch.Generator) -> None:
    """Draw the layers' weights anew, from a generator of our own: a fit must repeat."""
    with torch.no_grad():
        for layer in layers:
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.zero_()


def head_tensors(head: PixelHead) -> dict[str, Tensor]:
    """Return a head's weights, as an adapter stores them."""
    return {f"{_STORED}{name}": value.detach() for name, value in head.state_dict().items()}


def load_head(head: PixelHead, tensors: Mapping[str, Tensor]) -> None:
    """Fill a head of the right widths with stored weights; it is frozen.

    Raises
    ------
    RuntimeError
        A weight lacks, is left over or has another shape.
    """
    head.load_state_dict(
        {name.removeprefix(_STORED): value for name, value in tensors.items() if name.startswith(_STORED)}
    )
    head.eval().requires_grad_(False)


def with_position(features: Tensor) -> Tensor:
    """Append the place within the field of view, x and y from -1 to 1, to (slices, h, w, channels)."""
    height, width = features.shape[1:3]
    x = (torch.arange(width) + 0.5) * (2 / width) - 1
    y = (torch.arange(height) + 0.5) * (2 / height) - 1
    place = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return torch.cat([features, place.expand(len(features), -1, -1, -1)], dim=-1)


def matching_loss(embedded: Tensor, classes: Tensor, units: Tensor, temperature: float) -> Tensor:
    """Soft-target contrastive cross-entropy over a batch of pixels.

    Every pixel is matched with the pixels of *other* units (`Support.units`), as a query will be; one whose
    label no other unit shows is matched within its own. The target mass is spread over all pixels of its
    class as the similarities themselves spread it, so a class, and the background above all, may stay
    diverse: only the class that holds the matches counts, by the mean of exp(cos / T) over its pixels, so
    that a class of many pixels weighs no more than another. The supervised contrastive form, which pulls
    every pair of a label together, was measured to cost 0.03 to 0.1 IoU on new patients.

    Parameters
    ----------
    embedded
        (pixels, embedding) of unit length.
    classes, units
        int64 (pixels,).
    """
    same = units[:, None] == units[None]
    elsewhere = ((classes[:, None] == classes[None]) & ~same).any(dim=1, keepdim=True)
    excluded = torch.where(elsewhere, same, torch.eye(len(classes), dtype=torch.bool))
    kernel = torch.exp((embedded @ embedded.T - 1) / temperature).masked_fill(excluded, 0)
    by_class = functional.one_hot(classes).float()
    counts = (~excluded).float() @ by_class
    matched = counts.gather(1, classes[:, None])[:, 0] > 0
    logits = torch.log(kernel @ by_class / counts.clamp(min=1) + _TINY)
    return functional.cross_entropy(logits[matched], classes[matched])
