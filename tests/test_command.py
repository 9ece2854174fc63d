"""What commands share: errors as one line, the spelling of options, TensorFlow's environment."""

import argparse
import os
import warnings

import pytest

from checks import run_python
from kerastag._command import hyphenate_options, normalize_options, prepare_tensorflow, run_command
from kerastag.audio import AudioWarning


def raise_error(error):
    raise error


def test_onednn_is_enabled_and_tensorflows_log_is_silenced(monkeypatch):
    for name in ("TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    prepare_tensorflow()
    assert (os.environ["TF_ENABLE_ONEDNN_OPTS"], os.environ["TF_CPP_MIN_LOG_LEVEL"]) == ("1", "3")


def test_environment_variables_that_the_user_has_set_are_kept(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    prepare_tensorflow()
    assert (os.environ["TF_ENABLE_ONEDNN_OPTS"], os.environ["TF_CPP_MIN_LOG_LEVEL"]) == ("0", "0")


@pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (1, 1)])
def test_the_status_is_that_of_the_command(result, status, capsys):
    assert run_command("verb", lambda: result) == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("`x` must be 1;\n received: 2"), "verb: error: `x` must be 1; received: 2"),
        (FileNotFoundError("a.wav: no such file"), "verb: error: a.wav: no such file"),
        (FloatingPointError("step 3: the loss is nan"), "verb: error: step 3: the loss is nan"),
        (KeyError("x"), "verb: error: KeyError: 'x'"),
        (RuntimeError("out of\nmemory"), "verb: error: RuntimeError: out of memory"),
        (MemoryError(), "verb: error: MemoryError"),
        (BrokenPipeError("the broker left"), "verb: error: the broker left"),
    ],
)
def test_an_error_of_any_type_is_one_line_and_status_1(error, line, capsys):
    assert run_command("verb", lambda: raise_error(error)) == 1
    assert capsys.readouterr() == ("", f"{line}\n")


def test_debug_raises_the_error():
    with pytest.raises(KeyError):
        run_command("verb", lambda: raise_error(KeyError("x")), debug=True)


def test_an_interrupt_is_one_line_and_status_130(capsys):
    assert run_command("verb", lambda: raise_error(KeyboardInterrupt()), debug=True) == 130
    assert capsys.readouterr().err == "verb: interrupted\n"


def test_each_warning_of_kerastag_is_one_line_and_is_written_once(capsys):
    def warn():
        warnings.simplefilter("always")
        for message in ("a.wav: damaged;\n using 1 s", "b.wav: damaged", "b.wav: damaged"):
            warnings.warn(message, AudioWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="something else"):
        assert run_command("verb", warn) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["verb: warning: a.wav: damaged; using 1 s", "verb: warning: b.wav: damaged"]


def test_a_reader_that_leaves_ends_the_command_quietly():
    """The text is longer than any pipe's buffer, and the reader takes one line of it."""
    code = r"""
import subprocess, sys
code = "import sys; from kerastag._command import run_command; "
code += "sys.exit(run_command('verb', lambda: print('word\\n' * 500_000)))"
process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
process.stdout.readline()
process.stdout.close()
print(process.wait(), process.stderr.read())
"""
    assert run_python(code).strip() == "0 b''"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_is_one_line():
    code = r"""
import subprocess, sys
code = "import sys; from kerastag._command import run_command; sys.exit(run_command('verb', lambda: print('word')))"
with open("/dev/full", "w") as full:
    ended = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE)
print(ended.returncode, ended.stderr.decode())
"""
    assert run_python(code).strip() == "1 verb: error: [Errno 28] No space left on device"


def test_names_of_options_get_hyphens_and_values_stay():
    arguments = ["tag", "my_file.wav", "--audio_dir", "a_b", "--top_k=a_b", "-o_x", "--", "--a_b"]
    assert normalize_options(arguments) == [
        "tag",
        "my_file.wav",
        "--audio-dir",
        "a_b",
        "--top-k=a_b",
        "-o_x",
        *arguments[6:],
    ]


def test_options_of_a_parser_get_hyphens_and_values_keep_their_names():
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio_dir", "-d", help="Folder.")
    hyphenate_options(parser)
    assert "--audio-dir" in parser.format_help()
    assert "--audio_dir" not in parser.format_help()
    for option in ("--audio-dir", "--audio_dir", "-d"):
        assert vars(parser.parse_args([option, "x"])) == {"audio_dir": "x"}


def test_options_of_a_jsonargparse_parser_get_hyphens():
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--audio_dir", type=str, help="Folder.")
    hyphenate_options(parser)
    assert parser.parse_args(["--audio-dir", "x"]).audio_dir == "x"
    assert parser.parse_object({"audio_dir": "y"}).audio_dir == "y"
