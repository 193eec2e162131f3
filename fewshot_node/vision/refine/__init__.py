"""Coarse masks refined, each kept only where the refined one agrees with the adapter's."""

from fewshot_node.vision.refine.chain import refine
from fewshot_node.vision.refine.claims import intersection_over_union
from fewshot_node.vision.refine.settings import ENGINES, RefineSettings

__all__ = ["ENGINES", "RefineSettings", "intersection_over_union", "refine"]
