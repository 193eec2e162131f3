"""Prefect flows: what operators watch, retry and start by hand."""
