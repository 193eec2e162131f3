"""Phantoms with exact truth, metrics and overlay pictures."""
