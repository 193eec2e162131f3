"""What a promptable model is asked about a localization."""

from fewshot_node.vision.prompts.place import place_prompts, random_points
from fewshot_node.vision.prompts.settings import PAPER_POINTS, STRATEGIES, PromptSettings

__all__ = ["PAPER_POINTS", "STRATEGIES", "PromptSettings", "place_prompts", "random_points"]
