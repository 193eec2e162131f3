"""The command line: one module a noun; each parses, loads settings, calls one function and prints.

What is slow to import (torch, Prefect) is imported inside the command that needs it, so that
``--help`` and ``receive`` start at once.
"""
