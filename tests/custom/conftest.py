"""Fixtures for all tests of custom taggers."""

from custom.chain_faults import chain, chain_of_seconds
from custom.small_runs import backbone, cache_folder, finished_run, recordings

__all__ = ["backbone", "cache_folder", "chain", "chain_of_seconds", "finished_run", "recordings"]
