"""Corrections: results of ours that a person changed and sent back become templates, once somebody says so.

``series that came in -> recognised by its tracking UIDs -> proposal on disk -> accepted | rejected``
"""
