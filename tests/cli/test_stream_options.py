"""The options of `kerastag stream`, which are the fields of its configuration."""

import argparse
import re

import pytest

from kerastag.cli import build_parser
from kerastag.edge import StreamConfig


def parse(*arguments):
    return build_parser().parse_args(["stream", *arguments])


def test_every_field_of_the_configuration_is_an_option_with_its_description():
    (subparsers,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    options = {action.dest: action for action in subparsers.choices["stream"]._actions}
    fields = set(StreamConfig.__dataclass_fields__) - {"thresholds"}  # a table, which only a file can hold
    assert fields | {"help", "debug", "config"} == set(options)
    for name in fields:
        assert re.fullmatch(r"[A-Z].+[^.]\.", options[name].help), name
    assert options["top"].help == "Maximum number of tags of a result, at least 1 (default: 5)."
    assert options["head"].help == "Path of a .tflite file from embeddings to tags."


def test_options_are_parsed_with_the_types_of_the_fields():
    assert parse("--stats").stats == 0
    assert parse("--stats", "1.5").stats == 1.5
    assert parse("--output", "json:-,terminal", "--output", "csv:a").output == ["json:-,terminal", "csv:a"]
    assert parse("--classes", "Bark", "Rain", "--top", "3").classes == ["Bark", "Rain"]
    assert parse("--realtime", "--hop-seconds", "1").realtime is True
    assert "top" not in parse()


@pytest.mark.parametrize("arguments", [("--top", "1.5"), ("--mode", "fast"), ("--thresholds", "0.5")])
def test_invalid_options_end_with_a_usage_message(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(*arguments)
    assert arguments[0] in capsys.readouterr().err
