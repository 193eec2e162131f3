"""Light heads over dense features: fitted from a few annotated slices, they score every label."""

from fewshot_node.vision.adapters.basic import fit_basic
from fewshot_node.vision.adapters.contrastive import fit_contrastive
from fewshot_node.vision.adapters.storage import adapter_digest, load_adapter, save_adapter
from fewshot_node.vision.adapters.support import ADAPTERS, Adapter, AdapterSettings, Support, labels_to_grid

__all__ = [
    "ADAPTERS",
    "Adapter",
    "AdapterSettings",
    "Support",
    "adapter_digest",
    "fit_adapter",
    "labels_to_grid",
    "load_adapter",
    "save_adapter",
]


def fit_adapter(support: Support, settings: AdapterSettings | None = None) -> Adapter:
    """Fit the adapter that the settings name.

    Raises
    ------
    TemplateError
        A label of the task has no pixel in the support.
    """
    settings = settings or AdapterSettings()
    return fit_basic(support, settings) if settings.name == "basic" else fit_contrastive(support, settings)
