"""The blocks of shell commands in the documentation that no comment excludes, run in a folder with recordings."""

import shlex
import shutil

import numpy as np
import pytest
import soundfile
from test_documentation import SHELL_BLOCKS

from kerastag.bundled import resolve_model_path
from kerastag.cli import main

BLOCKS = [(document, line, code) for document, line, code, comment in SHELL_BLOCKS if comment is None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with what the pages name: recordings of noise and tones, and the bundled model as mine.tflite."""
    folder = tmp_path_factory.mktemp("documented")
    (folder / "recordings").mkdir()
    rate, random = 16_000, np.random.default_rng(0)
    tone = np.sin(2 * np.pi * 440 / rate * np.arange(3 * rate))
    for name in ("recordings/a.wav", "recordings/b.flac", "recording.wav", "street.flac"):
        samples = 0.3 * random.uniform(-1, 1, (3 * rate, 2)) * (random.uniform() < 0.5) + 0.3 * tone[:, None]
        soundfile.write(folder / name, samples, rate)
    shutil.copyfile(resolve_model_path("esc10"), folder / "mine.tflite")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("document", "line", "code"), BLOCKS, ids=[f"{document}:{line}" for document, line, _ in BLOCKS]
)
def test_a_block_of_commands_runs(document, line, code, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    commands = [shlex.split(command, comments=True) for command in code.replace("\\\n", " ").splitlines()]
    for command in filter(None, commands):
        assert command[0] == "kerastag", f"{document}: only commands of kerastag are run; mark the block as `not run`"
        assert main(command[1:]) == 0, f"{shlex.join(command)}\n{capsys.readouterr().err}"
    capsys.readouterr()
