"""Inputs that nobody would write by hand, and what became of them.

Three engines make examples for hypothesis: calls of public functions, configs, and
damaged files. `tests/fuzz` makes a few of each, the command makes thousands.
"""
