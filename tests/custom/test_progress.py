"""Progress of the stages of a run: a bar in a terminal, occasional lines elsewhere, even while nothing happens."""

import io
import time

import pytest

from kerastag.custom import progress as progress_module
from kerastag.custom.progress import show_progress


class Terminal(io.StringIO):
    """Standard error in a terminal, whose size is not known."""

    def isatty(self):
        return True


@pytest.fixture
def fast(monkeypatch):
    for name, seconds in (("_REFRESH_SECONDS", 0.02), ("_FIRST_LINE_SECONDS", 0.05), ("_LINE_SECONDS", 0.05)):
        monkeypatch.setattr(progress_module, name, seconds)


def test_a_quick_stage_writes_no_line(capsys):
    with show_progress("embedding", 3, "clips") as progress:
        progress.advance(3)
    assert str(progress) == "embedding: 3 of 3 clips, 0 s"
    assert capsys.readouterr().err == ""


def test_a_stage_that_makes_no_step_writes_lines_as_time_passes(fast, capsys):
    with show_progress("exporting"):
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert set(lines) == {"exporting: 0 s"}


def test_the_last_line_has_all_steps(fast, capsys):
    with show_progress("embedding", 2000, "clips") as progress:
        time.sleep(0.08)
        progress.advance(2000)
    assert capsys.readouterr().err.splitlines()[-1] == "embedding: 2,000 of 2,000 clips, 0 s"


def test_a_terminal_has_a_bar_that_moves_by_itself(fast, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with show_progress("embedding", 4, "clips") as progress:
        progress.advance(4)
        time.sleep(0.1)
        progress.write("seed 0, fold 1: 0.9")
    with show_progress("exporting"):
        time.sleep(0.05)
    text = terminal.getvalue()
    assert "4/4" in text
    assert "\nseed 0, fold 1: 0.9\n" in text.replace("\r", "\n")
    assert text.count("exporting [00:00]") > 1


def test_an_error_ends_the_progress(fast, capsys):
    with pytest.raises(ValueError, match="no such file"), show_progress("embedding", 2, "clips"):
        raise ValueError("no such file")
    time.sleep(0.12)
    assert capsys.readouterr().err == ""
