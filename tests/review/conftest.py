"""Fixtures for all tests of reviews."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("fastapi") else ["test_*.py"]  # without the extra `serve`

if importlib.util.find_spec("fastapi"):
    from review.small_reviews import open_session, trainer

    __all__ = ["open_session", "trainer"]
