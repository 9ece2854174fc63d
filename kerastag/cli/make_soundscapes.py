"""What `kerastag scenes` was asked for -> the scenes."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields, replace

from kerastag.data.mixing import SceneRules
from kerastag.data.scene_splits import DEFAULT_SPLITS, Split
from kerastag.data.soundscapes import DEFAULT_COUNT, ScenesReport, make_scenes
from kerastag.labels import LabelSet

__all__ = ["write_scenes_as_asked"]

_OF_RECORDINGS = ("labels", "classes", "split", "background_dir")


def write_scenes_as_asked(arguments: Namespace) -> list[ScenesReport]:
    """The arguments of the command -> what was written.

    Raises:
        ValueError, FileNotFoundError: as `make_scenes`.
    """
    if arguments.synthetic == (arguments.audio_dir is not None):
        raise ValueError("`--audio_dir` or `--synthetic` must be given, one of them")
    given = {field.name: getattr(arguments, field.name, None) for field in fields(SceneRules)}
    rules = replace(SceneRules(), **{name: value for name, value in given.items() if value is not None})
    if arguments.synthetic:
        return _synthetic(arguments, rules)
    splits = [Split.parse(text) for text in arguments.split] if arguments.split else DEFAULT_SPLITS
    return make_scenes(
        arguments.audio_dir,
        arguments.output,
        list_file=arguments.labels,
        classes=LabelSet.from_csv(arguments.classes) if arguments.classes else None,
        splits=splits,
        counts=_counts(arguments.count, [split.name for split in splits]),
        rules=rules,
        seed=arguments.seed,
        sample_rate=arguments.sample_rate,
        background_dir=arguments.background_dir,
        skip_corrupt=arguments.skip_corrupt,
        with_audio=arguments.audio,
        with_jams=arguments.jams,
    )


def _synthetic(arguments: Namespace, rules: SceneRules) -> list[ScenesReport]:
    from kerastag.data.synthetic_events import write_synthetic_scenes

    for name in _OF_RECORDINGS:
        if getattr(arguments, name):
            raise ValueError(f"`--{name}` is for recordings, not for `--synthetic`")
    names = [split.name for split in DEFAULT_SPLITS]
    return list(
        write_synthetic_scenes(
            arguments.output,
            sample_rate=arguments.sample_rate,
            counts=_counts(arguments.count, names),
            rules=rules,
            seed=arguments.seed,
            with_audio=arguments.audio,
            with_jams=arguments.jams,
            progress=None,
        ).values()
    )


def _counts(texts: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """`["500", "eval=200"]` -> scenes of each split: a number alone is for all that are not named."""
    counts = dict.fromkeys(names, DEFAULT_COUNT)
    for text in sorted(texts, key=lambda text: "=" in text):
        name, _, number = text.rpartition("=")
        if not number.isdecimal() or (name and name not in names):
            raise ValueError(f"`--count` must be N or NAME=N with NAME one of {', '.join(names)}, received {text!r}")
        counts |= {name: int(number)} if name else dict.fromkeys(names, int(number))
    return counts
