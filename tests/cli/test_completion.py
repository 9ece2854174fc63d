"""Completion scripts, loaded by the shells that they are for."""

import contextlib
import shutil
import subprocess
import sys

import pytest

from kerastag.cli import ALIASES, VERBS, main

pytest.importorskip("shtab", reason="needs the package shtab (extra `completion`)")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Path of the script for each shell."""
    folder = tmp_path_factory.mktemp("completion")
    paths = {}
    for shell in ("bash", "zsh", "fish"):
        paths[shell] = folder / f"kerastag.{shell}"
        with (
            paths[shell].open("w", encoding="utf-8") as file,
            contextlib.redirect_stdout(file),
            pytest.raises(SystemExit) as exit_info,
        ):
            main(["--print-completion", shell])
        assert exit_info.value.code == 0
    return paths


def run_shell(shell, script, *options):
    if shutil.which(shell) is None:
        pytest.skip(f"needs the program {shell}")
    ended = subprocess.run(
        [shell, *options, "-c", script], capture_output=True, text=True, check=False, timeout=60, encoding="utf-8"
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", list(VERBS)),
        ("make", ["make-soundscapes"]),
        ("pack ", ["features", "audio"]),
        ("pack audio --audio", ["--audio-dir"]),
        ("score-events --m", ["--min-seconds", "--max-gap-seconds"]),
        ("tag --format ", ["table", "json", "csv"]),
        ("fetch mn04", ["mn04_as"]),
        ("export --target tflite_r", ["tflite_runtime"]),
    ],
)
def test_bash_completes_verbs_options_and_values(words, expected, scripts):
    completed = " ".join(f"'{word}'" for word in ["kerastag", *words.split(" ")])
    script = f"""
source {scripts["bash"]}
COMP_WORDS=({completed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
COMP_LINE="kerastag {words}"; COMP_POINT=${{#COMP_LINE}}
function=$(complete -p kerastag | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function kerastag "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    replies = [reply.strip() for reply in run_shell("bash", script, "--norc")]
    assert set(expected) <= set(replies)
    assert not set(ALIASES) & set(replies)


def test_bash_completes_files(scripts, tmp_path):
    (tmp_path / "rain.wav").touch()
    script = f"""
cd {tmp_path}; source {scripts["bash"]}
COMP_WORDS=(kerastag tag ra); COMP_CWORD=2; COMP_LINE="kerastag tag ra"; COMP_POINT=15
$(complete -p kerastag | sed 's/.*-F \\([^ ]*\\).*/\\1/') kerastag ra tag
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    assert [reply.strip() for reply in run_shell("bash", script, "--norc")] == ["rain.wav"]


def test_fish_completes_verbs_and_options(scripts):
    script = f"source {scripts['fish']}; complete -C 'kerastag make'; complete -C 'kerastag pack audio --audio'"
    replies = [line.split("\t")[0] for line in run_shell("fish", script, "--no-config")]
    assert replies == ["make-soundscapes", "--audio-dir"]


def test_zsh_registers_the_completion_function(scripts):
    script = f'autoload -U compinit; compinit -u -D; eval "$(<{scripts["zsh"]})"; print $_comps[kerastag]'
    assert run_shell("zsh", script, "-f") == ["_shtab_kerastag"]


def test_a_missing_package_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as exit_info:
        main(["--print-completion", "bash"])
    assert exit_info.value.code == 1
    message = "--print-completion needs shtab: pip install 'kerastag[completion]'"
    assert capsys.readouterr().err == f"kerastag: error: {message}\n"
