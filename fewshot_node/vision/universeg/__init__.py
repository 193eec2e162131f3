"""UniverSeg: a network that segments what annotated examples show it, without being fitted to them."""

from fewshot_node.vision.universeg.loading import EMBEDDED_UNIVERSEG, UniverSegModel, load_universeg, save_universeg
from fewshot_node.vision.universeg.network import UniverSeg

__all__ = ["EMBEDDED_UNIVERSEG", "UniverSeg", "UniverSegModel", "load_universeg", "save_universeg"]
