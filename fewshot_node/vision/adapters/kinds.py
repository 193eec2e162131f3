"""Every adapter by its name: how it is fitted, and how it is rebuilt from what was stored."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from fewshot_node.vision.adapters.basic import BasicAdapter, fit_basic
from fewshot_node.vision.adapters.binary import fit_binary, rebuild_binary
from fewshot_node.vision.adapters.classification import ClassificationAdapter, fit_classification
from fewshot_node.vision.adapters.closed_form import LinearAdapter, fit_lda, fit_prototype
from fewshot_node.vision.adapters.concat import ConcatAdapter, fit_concat
from fewshot_node.vision.adapters.context import ContextAdapter, fit_context
from fewshot_node.vision.adapters.contrastive import ContrastiveAdapter, fit_contrastive
from fewshot_node.vision.adapters.settings import AdapterSettings
from fewshot_node.vision.adapters.support import Adapter, Support, require_every_label

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Kind:
    fit: Callable[[Support, AdapterSettings], Adapter]
    rebuild: Callable[[AdapterSettings, tuple[int, ...], Mapping[str, Tensor]], Adapter]


_KINDS = {
    "basic": _Kind(fit_basic, BasicAdapter.from_tensors),
    "classification": _Kind(fit_classification, ClassificationAdapter.from_tensors),
    "contrastive": _Kind(fit_contrastive, ContrastiveAdapter.from_tensors),
    "contrastive-concat": _Kind(fit_concat, ConcatAdapter.from_tensors),
    "prototype": _Kind(fit_prototype, LinearAdapter.from_tensors),
    "lda": _Kind(fit_lda, LinearAdapter.from_tensors),
    "context": _Kind(fit_context, ContextAdapter.from_tensors),
}


def fit_adapter(support: Support, settings: AdapterSettings | None = None) -> Adapter:
    """Fit the adapter that the settings name; the same support and settings give the same adapter.

    Raises
    ------
    TemplateError
        A label of the task has no pixel in the support.
    """
    settings = settings or AdapterSettings()
    require_every_label(support)
    started = time.perf_counter()
    fit = _KINDS[settings.name].fit
    adapter = fit_binary(support, settings, fit) if settings.mode == "binary" else fit(support, settings)
    seconds = time.perf_counter() - started
    logger.info(
        "%s: %d labels, %d slices, fitted in %.1f s",
        settings.name,
        len(support.label_values),
        len(support.labels),
        seconds,
    )
    return adapter


def rebuild_adapter(settings: AdapterSettings, label_values: tuple[int, ...], tensors: Mapping[str, Tensor]) -> Adapter:
    """Rebuild an adapter from what its `tensors` gave.

    Raises
    ------
    KeyError, RuntimeError
        A tensor lacks or has another shape.
    """
    rebuild = _KINDS[settings.name].rebuild
    if settings.mode == "binary":
        return rebuild_binary(settings, label_values, tensors, rebuild)
    return rebuild(settings, label_values, tensors)
