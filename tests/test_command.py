"""What commands share: errors as one line, the spelling of options, TensorFlow's environment."""

import argparse
import os
import subprocess
import sys
import warnings

import pytest

from checks import ROOT, run_python
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
        (
            RecursionError("maximum recursion depth exceeded"),
            "verb: error: RecursionError: maximum recursion depth exceeded",
        ),
        (OSError(28, "No space left on device", "a.h5"), "verb: error: a.h5: No space left on device"),
        (OSError(28, "No space left on device", b"a.h5"), "verb: error: a.h5: No space left on device"),
        (OSError(9, "Bad file descriptor"), "verb: error: Bad file descriptor"),
        (ValueError("\x1b[2J\x9b\udcff"), r"verb: error: \x1b[2J\x9b\udcff"),
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


def test_an_interrupt_can_say_what_to_do_next(capsys):
    interrupt = KeyboardInterrupt()
    interrupt.add_note("repeat the command to resume")
    assert run_command("verb", lambda: raise_error(interrupt)) == 130
    assert capsys.readouterr().err == "verb: interrupted; repeat the command to resume\n"


def test_sigterm_ends_a_command_like_an_interrupt_and_is_left_as_it_was():
    code = r"""
import os, signal, sys, time
from kerastag._command import run_command

def wait():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        print("cleaned up")

status = run_command("verb", wait)
print(status, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""
    assert run_python(code) == "cleaned up\n143 True\n"


def test_sigterm_ends_a_forked_worker_without_a_message():
    code = r"""
import multiprocessing, time
from kerastag._command import run_command

def start_and_end_a_worker():
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    time.sleep(0.3)
    worker.terminate()
    worker.join()
    print(worker.exitcode)

run_command("verb", start_and_end_a_worker)
"""
    assert run_python(code) == "-15\n"


def test_text_that_the_encoding_lacks_is_escaped():
    code = r"from kerastag._command import run_command; run_command('verb', lambda: print('B\xe4rk \u2602 \udcff'))"
    assert run_python(code, {"PYTHONIOENCODING": "ascii"}) == r"B\xe4rk \u2602 \udcff" + "\n"


def test_control_characters_are_escaped_on_a_terminal_and_not_in_a_pipe():
    code = r"""
import os, pty, subprocess, sys
code = "from kerastag._command import run_command; run_command('verb', lambda: print('\\x1b[2J\\x9b\\ta'))"
parent, child = pty.openpty()
subprocess.run([sys.executable, "-c", code], stdout=child, check=True)
print(os.read(parent, 100))
print(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout)
"""
    terminal, pipe = run_python(code, {"PYTHONIOENCODING": "utf-8"}).splitlines()
    assert terminal == repr(rb"\x1b[2J\x9b" + b"\ta\r\n")
    assert pipe == repr(b"\x1b[2J\xc2\x9b\ta\n")


@pytest.mark.parametrize(
    ("redirections", "expected"),
    [
        (">&- 2>err", ""),
        ("2>&- >out", "word"),
        ("<&- >out 2>err", "word"),
        (">&- 2>&- <&-", ""),
    ],
)
def test_a_closed_standard_stream_is_neither_an_error_nor_the_number_of_another_file(redirections, expected, tmp_path):
    """The process prints one word on standard output, and a warning on standard error, and then opens a file."""
    code = r"""
import os, sys, warnings
from kerastag._command import run_command
from kerastag.audio import AudioWarning

def run():
    print("word")
    warnings.warn("a.wav: damaged", AudioWarning)
    with open("number", "w") as file:
        file.write(str(file.fileno() > 2))

sys.exit(run_command("verb", run))
"""
    (tmp_path / "code.py").write_text(code, encoding="utf-8")
    (tmp_path / "out").touch()
    shell = ["sh", "-c", f"{sys.executable} code.py {redirections}"]
    subprocess.run(shell, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert (tmp_path / "number").read_text(encoding="utf-8") == "True"
    assert (tmp_path / "out").read_text(encoding="utf-8").strip() == expected


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
    assert run_python(code).strip() == "1 verb: error: standard output: No space left on device"


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
