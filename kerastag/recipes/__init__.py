"""The published systems: one module per system, and the tables of both papers.

`kerastag train NAME` and `python -m kerastag.recipes.NAME` run the recipe of a system.
"""
