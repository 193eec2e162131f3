"""Promptable segmentation models behind one interface."""

from fewshot_node.vision.sam.engine import EmbeddedImage, Guidance, MaskAnswer, PromptBatch, SamEngine
from fewshot_node.vision.sam.loading import load_sam

__all__ = ["EmbeddedImage", "Guidance", "MaskAnswer", "PromptBatch", "SamEngine", "load_sam"]
