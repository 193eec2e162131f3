"""The DICOM conformance statement (PS3.2 Annex N), written from the tables that the code itself works by."""

from fewshot_node.dicom.statement.document import conformance_statement

__all__ = ["conformance_statement"]
