"""Lines in files: rotated, whole even where the disk is full, reopened under the same name."""

import contextlib
import os
import resource

import pytest

from kerastag.edge.sinks.text import RotatingFile, lines_to


@contextlib.contextmanager
def largest_file(count):
    """No file of this process grows beyond so many bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_each_line_is_there_at_once_and_after_the_old_ones(tmp_path):
    path = tmp_path / "below" / "a.txt"
    for number in range(2):
        file = RotatingFile(path, "header")
        file.write(f"line {number}")
        assert path.read_text().splitlines() == ["header", "line 0", "line 1"][: number + 2]
        file.close()


def test_files_are_put_aside_and_the_oldest_goes(tmp_path):
    path = tmp_path / "a.txt"
    file = RotatingFile(path, "head", max_megabytes=20e-6, kept_files=2)
    for number in range(9):
        file.write(f"line {number}")
    file.close()
    assert path.read_text() == "head\nline 8\n"
    assert (tmp_path / "a.txt.1").read_text() == "head\nline 6\nline 7\n"
    assert (tmp_path / "a.txt.2").read_text() == "head\nline 4\nline 5\n"
    assert len(list(tmp_path.iterdir())) == 3
    alone = RotatingFile(tmp_path / "b.txt", max_megabytes=8e-6, kept_files=0)
    for number in range(3):
        alone.write(f"line {number}")
    alone.close()
    assert (tmp_path / "b.txt").read_text() == "line 2\n"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_full_disk_leaves_whole_lines_and_work_goes_on_after(tmp_path):
    path = tmp_path / "a.txt"
    file = RotatingFile(path)
    file.write("first")
    with largest_file(10), pytest.raises(OSError, match=f"{path}: File too large"):
        file.write("second, longer than what is left")
    assert path.read_text() == "first\n"
    file.write("third")
    file.close()
    assert path.read_text() == "first\nthird\n"


def test_after_a_rotation_from_outside_lines_go_to_the_new_file(tmp_path):
    path = tmp_path / "a.txt"
    file = RotatingFile(path, "head")
    os.replace(path, tmp_path / "old.txt")
    file.write("to the old one")
    file.reopen()
    file.write("to the new one")
    file.close()
    assert (tmp_path / "old.txt").read_text() == "head\nto the old one\n"
    assert path.read_text() == "head\nto the new one\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_megabytes": 0}, "`max_megabytes` must be above 0, received 0"),
        ({"kept_files": -1}, "`kept_files` must be at least 0, received -1"),
    ],
)
def test_options_outside_their_range_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        RotatingFile(tmp_path / "a.txt", **options)
    assert not list(tmp_path.iterdir())


def test_targets(tmp_path, capsys):
    lines = lines_to("-", "head")
    lines.write("line")
    assert capsys.readouterr().out == "head\nline\n"
    with pytest.raises(ValueError, match="`output` must name a file after the colon"):
        lines_to("")
    with pytest.raises(OSError, match="directory"):
        lines_to(str(tmp_path))
