"""Coarse masks refined, each kept only where the refined one agrees with the adapter's."""

from fewshot_node.vision.refine.chain import refine
from fewshot_node.vision.refine.claims import intersection_over_union
from fewshot_node.vision.refine.settings import ENGINES, RefineSettings
from fewshot_node.vision.sam import SamEngine, load_sam

__all__ = ["ENGINES", "RefineSettings", "SamEngine", "intersection_over_union", "load_sam", "refine"]
