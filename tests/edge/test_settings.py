"""Settings of a stream: a TOML, flags over it, and everything that is none."""

import re

import pytest

from kerastag.edge.settings import StreamSettings


def written(folder, text):
    path = folder / "stream.toml"
    path.write_text(text)
    return str(path)


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    path = written(
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
    settings = StreamSettings.read(path, {"threshold": 0.5, "output": ["csv:-", "terminal"]})
    assert settings.model == "a.tflite"
    assert settings.classes == ("Bark",)
    assert (settings.threshold, settings.smoothing_seconds, settings.min_seconds) == (0.5, 0.5, 0.0)
    assert settings.thresholds == {"Bark": 0.25}
    assert settings.output == ("csv:-", "terminal")
    assert StreamSettings.read(path, {}).output == ({"to": "json:-", "report": "events"},)
    assert StreamSettings.read(path, {}).threshold == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model =", "stream.toml: is no TOML: Invalid value"),
        ("treshold = 1", "stream.toml: `treshold` is no setting; did you mean `threshold`?"),
        ('model = "a"\nx = 1', "stream.toml: `x` is no setting, received none of model, head"),
        ('model = ""', "stream.toml: `model` must name a .tflite file or be esc10, received none"),
        ('model = "a"\ntop = 0', "stream.toml: `top` must be at least 1, received 0"),
        ('model = "a"\ntop = 1.5', "`top` must be a whole number, received 1.5"),
        ('model = "a"\ntop = true', "`top` must be a whole number, received True"),
        ('model = "a"\nthreshold = "high"', "`threshold` must be a number, received 'high'"),
        ('model = "a"\nthreshold = 1.1', "`threshold` must lie in [0, 1], received 1.1"),
        ('model = "a"\nthresholds = {Bark = 2}', "`thresholds.Bark` must lie in [0, 1], received 2"),
        ('model = "a"\nthresholds = 0.5', "`thresholds` must be a table of numbers, received 0.5"),
        ('model = "a"\nrealtime = 1', "`realtime` must be true or false, received 1"),
        ('model = "a"\nclasses = [1]', "`classes` must be a list of text, received [1]"),
        ('model = "a"\noutput = []', "`output` must name at least one output, received none"),
        ('model = "a"\nstats = -1', "`stats` must be at least 0 seconds, received -1"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        StreamSettings.read(written(tmp_path, text), {})


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.toml: there is no such configuration"):
        StreamSettings.read(str(tmp_path / "gone.toml"), {})
