"""Light heads over dense features: fitted from a few annotated slices, they score every label."""

from fewshot_node.vision.adapters.concat import ConcatAdapter, pairwise_scores
from fewshot_node.vision.adapters.context import square_canvas
from fewshot_node.vision.adapters.kinds import fit_adapter
from fewshot_node.vision.adapters.settings import ADAPTERS, MODES, AdapterSettings
from fewshot_node.vision.adapters.storage import adapter_digest, load_adapter, save_adapter
from fewshot_node.vision.adapters.support import Adapter, Support, cover_of_cells, labels_to_grid

__all__ = [
    "ADAPTERS",
    "MODES",
    "Adapter",
    "AdapterSettings",
    "ConcatAdapter",
    "Support",
    "adapter_digest",
    "cover_of_cells",
    "fit_adapter",
    "labels_to_grid",
    "load_adapter",
    "pairwise_scores",
    "save_adapter",
    "square_canvas",
]
