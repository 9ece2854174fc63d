"""Log lines of TensorFlow and LiteRT, which commands keep from the terminal."""

import os
import re
import subprocess
import sys
import threading

import pytest

from checks import ROOT
from kerastag._native_logs import hide_native_logs


def run_quietly(code):
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, encoding="utf-8"
    )


def test_what_is_written_below_python_is_discarded_only_in_the_block(capfd):
    with hide_native_logs():
        os.write(2, b"I0000 a line of a library\n")
    os.write(2, b"an error\n")
    assert capfd.readouterr().err == "an error\n"


def test_threads_that_hide_lines_at_once_leave_standard_error_as_it_was(capfd):
    is_inside, is_over = threading.Event(), threading.Event()

    def hide_some_lines():
        with hide_native_logs(re.compile(b"library: ")):
            is_inside.set()
            is_over.wait(10)

    with hide_native_logs(re.compile(b"decoder: ")):  # ends before the block of the thread, which began in it
        thread = threading.Thread(target=hide_some_lines)
        thread.start()
        is_inside.wait(10)
        os.write(2, b"decoder: damage\nlibrary: ready\na message\n")
    is_over.set()
    thread.join()
    os.write(2, b"an error\n")
    assert capfd.readouterr().err == "a message\nan error\n"


def test_a_closed_standard_error_stays_closed():
    code = """
import os
from kerastag._native_logs import hide_native_logs
os.close(2)
with hide_native_logs():
    pass
try:
    os.fstat(2)
except OSError:
    print("closed")
"""
    assert run_quietly(code).stdout == "closed\n"


@pytest.mark.slow
def test_tensorflow_is_imported_in_silence_even_after_a_search_for_it():
    pytest.importorskip("tensorflow")
    code = """
import importlib.util
from kerastag._command import prepare_tensorflow
prepare_tensorflow()
print(importlib.util.find_spec("tensorflow") is not None)
import tensorflow
print(tensorflow.__version__ != "")
"""
    result = run_quietly(code)
    assert (result.stdout, result.stderr) == ("True\nTrue\n", "")


def test_a_model_is_loaded_in_silence(tmp_path):
    pytest.importorskip("ai_edge_litert")
    code = "from kerastag.tagger import Tagger; Tagger.load('esc10')"
    assert run_quietly(code).stderr == ""
