"""Fixtures for all tests of custom taggers."""

from custom.small_runs import backbone, cache_folder, finished_run, recordings

__all__ = ["backbone", "cache_folder", "finished_run", "recordings"]
