"""The configuration of a stream: a TOML file, values that override it, and errors."""

import re

import pytest

from kerastag.edge import load_stream_config


def write_config(folder, text):
    path = folder / "stream.toml"
    path.write_text(text)
    return str(path)


def test_overrides_replace_the_file_and_the_file_replaces_the_defaults(tmp_path):
    path = write_config(
        tmp_path,
        """
model = "a.tflite"
classes = "Bark"
threshold = 1
smoothing_seconds = 0.5
[thresholds]
Bark = 0.25
[[output]]
to = "json:-"
report = "events"
""",
    )
    config = load_stream_config(path, {"threshold": 0.5, "output": ["csv:-", "terminal"]})
    assert config.model == "a.tflite"
    assert config.classes == ("Bark",)
    assert (config.threshold, config.smoothing_seconds, config.min_seconds) == (0.5, 0.5, 0.0)
    assert config.thresholds == {"Bark": 0.25}
    assert config.output == ("csv:-", "terminal")
    assert load_stream_config(path, {}).output == ({"to": "json:-", "report": "events"},)
    assert load_stream_config(path, {}).threshold == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model =", "stream.toml: not a TOML file: Invalid value"),
        ("treshold = 1", "stream.toml: `treshold` is not a known key; did you mean `threshold`?"),
        ('model = "a"\nx = 1', "stream.toml: `x` is not a known key; must be one of model, head"),
        ('model = ""', "stream.toml: `model` must be the path of a .tflite file or esc10; received: ''"),
        ('model = "a"\ntop = 0', "stream.toml: `top` must be at least 1; received: 0"),
        ('model = "a"\ntop = 1.5', "`top` must be an integer; received: 1.5"),
        ('model = "a"\ntop = true', "`top` must be an integer; received: True"),
        ('model = "a"\nthreshold = "high"', "`threshold` must be a number; received: 'high'"),
        ('model = "a"\nthreshold = 1.1', "`threshold` must be in [0, 1]; received: 1.1"),
        ('model = "a"\nthresholds = {Bark = 2}', "`thresholds.Bark` must be in [0, 1]; received: 2"),
        ('model = "a"\nthresholds = 0.5', "`thresholds` must be a table of numbers; received: 0.5"),
        ('model = "a"\nrealtime = 1', "`realtime` must be true or false; received: 1"),
        ('model = "a"\nclasses = [1]', "`classes` must be a list of strings; received: [1]"),
        ('model = "a"\noutput = []', "`output` must have at least one output; received: none"),
        ('model = "a"\nstats = -1', "`stats` must be at least 0 seconds; received: -1"),
    ],
)
def test_errors_name_the_file(tmp_path, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_stream_config(write_config(tmp_path, text), {})


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.toml: no such configuration file"):
        load_stream_config(str(tmp_path / "gone.toml"), {})
