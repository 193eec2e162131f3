"""Annotation files as people have them, one module a format: what they say, on the grid of a series in mm."""

from fewshot_node.tasks.annotations.reading import read_annotation
from fewshot_node.tasks.annotations.recognise import READABLE
from fewshot_node.tasks.annotations.records import Annotation, AnnotationFormat, NamedPoint, Region, Target

__all__ = ["READABLE", "Annotation", "AnnotationFormat", "NamedPoint", "Region", "Target", "read_annotation"]
