"""The rivals: other ways to learn from templates, as rows of the comparison.

``persam`` and ``persam-f`` personalise a promptable model, ``universeg`` is shown the templates with every query,
``unet-scratch`` is a network trained on the templates and nothing else.
"""

from fewshot_node.evaluation.baselines.persam import PerSam
from fewshot_node.evaluation.baselines.persam_f import PerSamF
from fewshot_node.evaluation.baselines.rival import RivalMethod
from fewshot_node.evaluation.baselines.scratch import ScratchSettings, ScratchUNet
from fewshot_node.evaluation.baselines.universeg import UniverSegLearner

__all__ = ["PerSam", "PerSamF", "RivalMethod", "ScratchSettings", "ScratchUNet", "UniverSegLearner"]
