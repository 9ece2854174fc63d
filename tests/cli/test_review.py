"""`kerastag review`: its help loads nothing heavy, and bad arguments are one line."""

import pytest

from checks import run_python
from kerastag.__main__ import main


def test_the_help_names_every_option_and_loads_nothing_heavy():
    code = """
import sys
from kerastag.__main__ import main
try:
    main(["review", "--help"])
except SystemExit:
    pass
print([name for name in ("numpy", "keras", "fastapi") if name in sys.modules])
"""
    output = run_python(code)
    assert output.splitlines()[-1] == "[]"
    for option in ("--reviewer", "--window-seconds", "--round-size", "--train-every", "--token-file", "--allowed-host"):
        assert option in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window-seconds", "31"], "`window_seconds` must be an integer from 1 to 30; received: 31"),
        (["--host", "0.0.0.0"], "`host` must be a loopback address"),
        ([], "not a run folder (no config.json)"),
    ],
)
def test_bad_arguments_are_one_line(tmp_path, capsys, arguments, message):
    pytest.importorskip("fastapi")
    assert main(["review", str(tmp_path / "run"), *arguments]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "loading" not in line]
    assert len(lines) == 1
    assert message in lines[0]
