"""Calibration of heads that learn from all templates at once: fitted again without those that are scored."""

from collections.abc import Callable

import numpy as np

from fewshot_node.vision.adapters.calibration import Calibration, calibrate
from fewshot_node.vision.adapters.scoring import ABSENT
from fewshot_node.vision.adapters.support import Adapter, Support

_MOST_FOLDS = 3


def cross_calibrate(support: Support, fit: Callable[[Support], Adapter]) -> Calibration:
    """Score every template slice by a head that has not seen its unit (`Support.units`), and calibrate on that.

    Units are held out in up to three groups, so that a fit costs four times the training at most. A label that
    no other group shows is `ABSENT` from that group's scores.

    Parameters
    ----------
    fit
        Fits an adapter, without calibration, to a part of the support; the part may lack a label.
    """
    units = support.units
    count = int(units.max()) + 1
    labels = len(support.label_values)
    if count == 1:
        return Calibration.neutral(labels)
    folds = units % min(count, _MOST_FOLDS)
    classes = support.classes
    scores = np.zeros((len(classes), labels + 1, *classes.shape[1:]), dtype=np.float32)
    for fold in np.unique(folds):
        held_out = folds == fold
        shown = np.isin(np.arange(labels + 1), classes[~held_out])
        if shown[1:].any():
            scores[held_out] = fit(support.part(~held_out)).scores(support.features[held_out])
        scores[np.ix_(held_out, ~shown)] = ABSENT
    return calibrate(list(scores), classes)
