"""The commands of each page of the documentation, run one after the other in a folder with what the page names.

Some of it is replaced: `mn04_as` by a small network that was not trained, and microphones, cameras and radio stations
by a recording. Trainings have few steps, and servers end as soon as they answer.
"""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from custom.small_runs import SMALL, recordings
from documented_places import write_cache, write_place
from test_documentation import SHELL_BLOCKS

from kerastag.cli import main

__all__ = ["recordings"]

httpx = pytest.importorskip("httpx", reason="needs httpx (extra `test`)")

BLOCKS = {}
for document, line, code, comment in SHELL_BLOCKS:
    if comment is None:
        BLOCKS.setdefault(document, []).append((line, code))
SOURCE = re.compile(r"mic(:\w+)?|(rtsp|http)://\S+")
SHORT = {
    "custom": [*SMALL, "--folds", "0"],
    "learn": [*SMALL, "--folds", "0"],
    "make-soundscapes": ["--count", "12"],
    "train": ["--smoke"],
}
"""Options that shorten what a verb does."""

BEFORE = {
    "docs/export.md": [
        "kerastag make-soundscapes --audio-dir my_sounds --output packs",
        "kerastag custom --audio-dir my_sounds --linear-share 0.5 --run-dir runs/custom/seed_0",
    ],
}
"""Commands that are run before those of a page."""


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """Cache folder of kerastag, with the stand-in of `mn04_as`."""
    folder = tmp_path_factory.mktemp("cache")
    write_cache(folder)
    return folder


@pytest.fixture
def place(request, tmp_path, monkeypatch, home, recordings):
    """Folder with what a page names, which is the current one."""
    monkeypatch.setenv("KERASTAG_HOME", os.fspath(home))
    monkeypatch.chdir(tmp_path)
    write_place(tmp_path, Path(request.node.callspec.params["document"]).stem, recordings, home)
    return tmp_path


def run_server(command):
    """Run a command that serves, and stop it as soon as it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    has_ended = threading.Event()

    def stop():
        while not has_ended.wait(0.05):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code != 503:
                    has_ended.wait(0.1)
                    signal.raise_signal(signal.SIGTERM)
                    return

    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    thread = threading.Thread(target=stop)
    thread.start()
    try:
        return main([*command, "--port", str(port)])
    finally:
        has_ended.set()
        thread.join()
        signal.signal(signal.SIGTERM, previous)


def run_kerastag(verb, *arguments):
    """Run a command of a page, with the options that shorten it, and return its status."""
    more = [] if {"--list", "--smoke"} & set(arguments) else list(SHORT.get(verb, ()))
    if verb in ("serve", "review"):
        return run_server([verb, *arguments])
    if verb == "stream":
        with Path("street.wav").open("rb") as file:
            os.dup2(file.fileno(), 0)  # the standard input of --source -
        arguments = ["street.wav" if SOURCE.fullmatch(word) else word for word in arguments]
    if "runs/first" in arguments:  # A review needs folds.
        more += ["--folds", "3"]
    if verb in ("learn", "custom") and "--run-dir" not in arguments:
        more += ["--run-dir", f"runs/custom/seed_{len(list(Path('runs/custom').glob('*')))}"]
    if verb == "learn":  # tests/custom/test_learn.py exports taggers
        more += ["--deploy", "false"]
    if "gl_at_cnn10" in arguments:
        more += ["--width", "0.125", "--run-dir", "runs/gl_at/seed_0"]
    return main([verb, *arguments, *more])


def run_line(line):
    """Run a line of a page."""
    words = shlex.split(line, comments=True)
    if words and words[0] == "kerastag":
        assert run_kerastag(*words[1:]) == 0
    elif words:
        subprocess.run(line, shell=True, check=True, stdin=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("document", BLOCKS)
def test_the_commands_of_a_page_run(document, place, capsys):
    for command in BEFORE.get(document, ()):
        run_line(command)
    for line, code in BLOCKS[document]:
        for command in code.replace("\\\n", " ").splitlines():
            print(f"{document}, block of line {line}: {command}")
            run_line(command)
    capsys.readouterr()
