"""The TOML files of export/targets, and the errors of a wrong one."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from checks import run_python
from kerastag._configs import find_config, list_configs
from kerastag.export import Target, Tolerance, read_target

NAMES = list_configs("targets")


def write_target(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_target_is_named_after_its_file_and_describes_its_purpose(name: str) -> None:
    target = read_target(name)
    assert target.name == name
    assert len(target.about) > 20


@pytest.mark.parametrize("name", NAMES)
def test_a_target_file_holds_only_what_differs_from_the_defaults(name: str) -> None:
    values = tomllib.loads(find_config("targets", name).read_text(encoding="utf-8"))
    defaults = {field.name: field.default for field in fields(Target)}
    tolerance = values.pop("tolerance", {})
    same = [key for key, value in values.items() if defaults[key] == value]
    same += [key for key, value in tolerance.items() if getattr(Tolerance(), key) == value]
    assert not same


def test_the_bundled_targets_have_their_tolerances() -> None:
    expected = {
        "saved_model",
        "float32",
        "float16",
        "int8_dynamic",
        "int8",
        "int16x8",
        "mediapipe",
        "tflite_runtime",
        "streaming_head",
        "any_length",
    }
    assert expected <= set(NAMES)
    assert read_target("float32").tolerance == Tolerance(
        clipwise=1e-5, framewise=1e-5, clipwise_from_waveform=5e-5, framewise_from_waveform=5e-4
    )
    assert read_target("float16").tolerance.clipwise == 2e-3
    assert (read_target("int8_dynamic").tolerance.map_loss, read_target("int8").tolerance.map_loss) == (2e-3, 6e-3)


def test_reading_a_target_loads_no_framework() -> None:
    code = "import sys; from kerastag.export import read_target; read_target('float16')\n"
    code += "print([m for m in ('numpy', 'keras', 'tensorflow') if m in sys.modules])"
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quantize = 'int8'", r"mine.toml: keys must be among .*quantization.*; received: `quantize`"),
        ("quantization = 'int4'", r"`quantization` must be one of none, float16, .*; received: 'int4'"),
        ("format = 'onnx'", r"`format` must be one of tflite, saved_model; received: 'onnx'"),
        ("input = 1", r"`input` must be one of .*; received: 1"),
        ("window_seconds = -1", r"`window_seconds` must be at least 0; received: -1"),
        ("window_seconds = 'long'", r"`window_seconds` must be a number of seconds; received: 'long'"),
        ("smallest_weights = 0.5", r"`smallest_weights` must be an integer from 0; received: 0.5"),
        ("keep_float = '('", r"`keep_float` must be a list of strings; received: '\('"),
        ("keep_float = ['(']", r"`keep_float` must hold regular expressions; received: '\('"),
        ("any_length = 1", r"`any_length` must be true or false; received: 1"),
        ("any_length = true", r"`any_length` must be false, except for a TFLite file in float32 that takes a waveform"),
        ("[tolerance]\nclipwise = 2", r"`tolerance.clipwise` must be in \[0, 1\]; received: 2"),
        ("[tolerance]\nloud = 1", r"keys must be among clipwise, .*; received: `tolerance.loud`"),
        ("tolerance = 1", r"`tolerance` must be a table; received: 1"),
        ("format = 'saved_model'\nquantization = 'int8'", r"`quantization` of a SavedModel must be none"),
        ("about = ", r"mine.toml: "),
    ],
)
def test_a_wrong_target_is_an_error_of_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_target(write_target(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_the_british_spelling_of_an_older_version_is_read(tmp_path: Path) -> None:
    assert read_target(write_target(tmp_path, "quantisation='float16'")).quantization == "float16"


def test_a_similar_name_is_suggested_for_an_unknown_target() -> None:
    with pytest.raises(FileNotFoundError, match="did you mean float16"):
        read_target("flaot16")
