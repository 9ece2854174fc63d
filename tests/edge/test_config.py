"""The configuration of a stream: a TOML file, values that override it, and errors."""

import json
import re

import pytest
from edge.passwords import find_pieces, generate_passwords

from kerastag._command import mask_urls
from kerastag.edge import load_stream_config


@pytest.fixture
def path(tmp_path):
    return tmp_path / "stream.toml"


def test_overrides_replace_the_file_and_the_file_replaces_the_defaults(path):
    path.write_text(
        """
model = "a.tflite"
classes = "Bark"
threshold = 1
smoothing_seconds = 0.5
thresholds = {Bark = 0.25}
output = [{to = "json:-", report = "events"}]
""",
        encoding="utf-8",
    )
    config = load_stream_config(path, {"threshold": 0.5, "output": ["csv:-", "terminal"]})
    assert (config.model, config.classes) == ("a.tflite", ("Bark",))
    assert (config.threshold, config.smoothing_seconds, config.min_seconds) == (0.5, 0.5, None)
    assert config.thresholds == {"Bark": 0.25}
    assert config.output == ("csv:-", "terminal")
    assert load_stream_config(path, {}).output == ({"to": "json:-", "report": "events"},)
    assert load_stream_config(path, {}).threshold == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model =", "stream.toml: not a TOML file: Invalid value"),
        ("treshold = 1", "stream.toml: `treshold` is not a known key; did you mean `threshold`?"),
        ("x = 1", "stream.toml: `x` is not a known key; must be one of model, head"),
        ('model = ""', "stream.toml: `model` must be the path of a .tflite file or esc10; received: ''"),
        ("top = 0", "stream.toml: `top` must be in [1, 10000]; received: 0"),
        ("top = 1.5", "`top` must be an integer; received: 1.5"),
        ("top = true", "`top` must be an integer; received: True"),
        ('threshold = "high"', "`threshold` must be a number; received: 'high'"),
        ("threshold = 1.1", "`threshold` must be in [0, 1]; received: 1.1"),
        ("thresholds = {Bark = 2}", "`thresholds.Bark` must be in [0, 1]; received: 2"),
        ("thresholds = 0.5", "`thresholds` must be a table of numbers; received: 0.5"),
        ("realtime = 1", "`realtime` must be true or false; received: 1"),
        ("classes = [1]", "`classes` must be a list of strings; received: [1]"),
        ("output = []", "`output` must have at least one output; received: none"),
        ("stats = -1", "`stats` must be in [0, 1000000000]; received: -1"),
        ("queue_seconds = nan", "`queue_seconds` must be in [0.1, 3600]; received: nan"),
        ("queue_seconds = -1", "`queue_seconds` must be in [0.1, 3600]; received: -1"),
        ("smoothing_seconds = 1e9", "`smoothing_seconds` must be in [0, 60]; received: 1e+09"),
        ("hop_seconds = 1e308", "`hop_seconds` must be in [0.001, 3600]; received: 1e+308"),
        ("stats = inf", "`stats` must be in [0, 1000000000]; received: inf"),
        ("threads = 4294967296", "`threads` must be in [1, 256]; received: 4294967296"),
        ("rate = 100", "`rate` must be in [1000, 1000000]; received: 100"),
        ("channels = 65", "`channels` must be in [1, 64]; received: 65"),
        ("timeout_seconds = 0", "`timeout_seconds` must be in [0.1, 3600]; received: 0"),
        (f"min_seconds = 0x{'f' * 5_000}", "`min_seconds` must be in [0, 3600]; received: inf"),
        (f"top = 0x{'f' * 5_000}", "`top` must be in [1, 10000]; received: a number with thousands of digits"),
        (f"top = {'9' * 5_000}", "stream.toml: not a TOML file: Exceeds the limit"),
        (f"x = {'[' * 5_000}", "stream.toml: not a TOML file: maximum recursion depth"),
        ("thresholds = {Bark = nan}", "`thresholds.Bark` must be in [0, 1]; received: nan"),
        ('mqtt_ca_file = "a.pem"', "`mqtt_ca_file` must be used with an output mqtts://HOST/TOPIC"),
        ('output = ["mqtt://me:pa ss@host/x", 1]', "must be a list of strings; received: ['mqtt://… 1]"),
    ],
)
def test_errors_name_the_file(path, text, message):
    with pytest.raises(FileNotFoundError, match=r"stream.toml: no such configuration file"):
        load_stream_config(path, {})
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        load_stream_config(path, {})


def test_passwords_in_urls_are_masked(path):
    for password in generate_passwords(200):
        url = f"rtsp://me:{password}@camera/live?token={password}"
        path.write_text(f"output = [1, {json.dumps(url)}]\n", encoding="utf-8")
        with pytest.raises(ValueError, match="`output` must be a list of strings; received:") as error_info:
            load_stream_config(path, {})
        for text in (str(error_info.value), mask_urls(f"unrecognized arguments: --sorce {url}")):
            assert not find_pieces(password, text)
