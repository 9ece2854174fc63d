"""Segment-based tagging: table I, third row.

`f(x)` is trained on single segments that inherit the tags of their clip (eq. 1); the clip's prediction is the mean
over its segments. A step sees one random segment of each clip of the batch.
"""

import sys
from dataclasses import dataclass

from kerastag.recipes import _run


@dataclass(kw_only=True)
class Settings(_run.NetworkSettings):
    """Settings of the segment-based system; the defaults are the published run."""

    single_segments: bool = True


def build(settings, data):
    from kerastag.models.embedding_models import instance_space

    return instance_space("average", **settings.network(data))


if __name__ == "__main__":
    sys.exit(_run.main(Settings, build, "segment"))
