"""Files of lines: rotated, without partial lines on a full disk, and reopened."""

import contextlib
import os
import resource

import pytest
from edge.sinks.reports import create_event

from kerastag.edge.sinks.text import CSV_COLUMNS, CsvSink, RotatingFile


@contextlib.contextmanager
def limit_file_size(count):
    """Limit the files of this process to so many bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_lines_are_appended_and_written_at_once(tmp_path):
    path = tmp_path / "below" / "a.txt"
    for number in range(2):
        file = RotatingFile(path, "header")
        file.write(f"line {number}")
        assert path.read_text().splitlines() == ["header", "line 0", "line 1"][: number + 2]
        file.close()


def test_files_are_rotated_and_the_oldest_is_deleted(tmp_path):
    path = tmp_path / "a.txt"
    file = RotatingFile(path, "head", max_megabytes=20e-6, kept_files=2)
    for number in range(9):
        file.write(f"line {number}")
    file.close()
    assert path.read_text() == "head\nline 8\n"
    assert (tmp_path / "a.txt.1").read_text() == "head\nline 6\nline 7\n"
    assert (tmp_path / "a.txt.2").read_text() == "head\nline 4\nline 5\n"
    assert len(list(tmp_path.iterdir())) == 3
    single = RotatingFile(tmp_path / "b.txt", max_megabytes=8e-6, kept_files=0)
    for number in range(3):
        single.write(f"line {number}")
    single.close()
    assert (tmp_path / "b.txt").read_text() == "line 2\n"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_full_disk_leaves_whole_lines_and_later_lines_are_written(tmp_path):
    path = tmp_path / "a.txt"
    file = RotatingFile(path)
    file.write("first")
    with limit_file_size(10), pytest.raises(OSError, match=f"{path}: File too large"):
        file.write("second, which does not fit")
    assert path.read_text() == "first\n"
    file.write("third")
    file.close()
    assert path.read_text() == "first\nthird\n"


def test_after_an_external_rotation_lines_go_to_the_new_file(tmp_path):
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
        ({"max_megabytes": 0}, "`max_megabytes` must be above 0; received: 0"),
        ({"kept_files": -1}, "`kept_files` must be at least 0; received: -1"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        RotatingFile(tmp_path / "a.txt", **options)
    assert not list(tmp_path.iterdir())


def test_the_target_is_standard_output_or_a_file(tmp_path, capsys):
    sink = CsvSink("-")
    sink.write_event(create_event("Bark", 1.0, 2.0))
    assert capsys.readouterr().out == ",".join(CSV_COLUMNS) + "\nend,,1.0,2.0,Bark,/m/B,0.75\n"
    with pytest.raises(ValueError, match="`output` must name a file after the colon"):
        CsvSink("")
    with pytest.raises(OSError, match="directory"):
        CsvSink(str(tmp_path))
