"""Fixtures for all tests of custom taggers."""

from custom.chain_faults import chain
from custom.small_runs import backbone, cache_folder, finished_run, recordings

__all__ = ["backbone", "cache_folder", "chain", "finished_run", "recordings"]
