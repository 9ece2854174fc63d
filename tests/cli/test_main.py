"""The `kerastag` command: its verbs, what they print, and their exit status."""

import argparse
import json

import numpy as np
import pytest
import soundfile

from checks import SHARED, needs_unicode_names, run_python
from kerastag import fetch
from kerastag.__main__ import main
from kerastag.card import Card
from kerastag.cli import ALIASES, VERBS, build_parser

MN04 = SHARED / "data/weights/mn04_as_mAP_432.pt"
NOT_LOADED = ("keras", "tensorflow", "jax", "numpy", "soundfile", "shtab", "jsonargparse")
FORWARDING = ("train", "learn", "custom", "tables")


def list_parsers(parser):
    """Yield the parser and those of its verbs, in any depth."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from list_parsers(subparser)


PARSERS = {parser.prog: parser for parser in list_parsers(build_parser())}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in FORWARDING])
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([verb, "--help"])
    assert exit_info.value.code == 0
    assert f"usage: kerastag {verb}" in capsys.readouterr().out


def test_the_help_lists_the_verbs_and_not_their_former_names(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    listed = [words[0] for words in lines if words and words[0] in {*VERBS, *ALIASES}]
    assert listed == list(VERBS)


def test_help_loads_no_framework_and_not_even_numpy():
    code = f"""
import contextlib, io, sys
from kerastag.cli import VERBS, main
for arguments in ["--help"], ["pack", "audio", "--help"], ["tag", "--help"], ["stream", "--help"]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(arguments)
print([name for name in {NOT_LOADED} if name in sys.modules])
"""
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize("prog", PARSERS)
def test_help_texts_are_sentences_and_options_have_hyphens(prog):
    parser = PARSERS[prog]
    assert parser.description
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        name = "/".join(action.option_strings) or action.dest
        assert action.help, f"{prog}: {name} has no help text"
        assert action.help[0].isupper() or not action.help[0].isalpha(), f"{prog}: {name}: {action.help}"
        assert action.help.endswith("."), f"{prog}: {name}: {action.help}"
        assert "_" not in name or not action.option_strings, f"{prog}: {name}"


@pytest.mark.parametrize("prog", [prog for prog in PARSERS if len(list(list_parsers(PARSERS[prog]))) == 1])
def test_every_verb_accepts_debug(prog):
    parser = PARSERS[prog]
    is_forwarding = any(action.nargs == argparse.REMAINDER for action in parser._actions)
    assert is_forwarding or "--debug" in parser._option_string_actions


@pytest.mark.parametrize(("alias", "verb"), ALIASES.items())
def test_a_former_name_works_with_a_warning(alias, verb, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([alias, "--help"])
    assert exit_info.value.code == 0
    out, err = capsys.readouterr()
    assert f"usage: kerastag {verb}" in out
    assert err == f"kerastag {alias}: warning: this verb is now called {verb}\n"


@pytest.mark.parametrize("separator", ["-", "_"])
def test_options_are_spelled_with_hyphens_or_underscores(separator, tmp_path, capsys):
    (tmp_path / "no_sounds").mkdir()
    arguments = [f"--audio{separator}dir", str(tmp_path / "no_sounds"), f"--sample{separator}rate=8000"]
    assert main(["pack", "audio", *arguments, "--output", str(tmp_path / "a_b.h5"), f"--skip{separator}corrupt"]) == 1
    assert f"{tmp_path}/no_sounds" in capsys.readouterr().err


def test_arguments_of_a_forwarding_verb_pass_unparsed():
    args = build_parser().parse_args(["custom", "--help", "--version", "a_b", "--", "--debug"])
    assert (args.verb, args.arguments) == ("custom", ["--help", "--version", "a_b", "--", "--debug"])


def test_an_unknown_recipe_is_one_line(capsys):
    assert main(["train", "no_such_recipe"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("kerastag train: error: ")
    assert "no_such_recipe" in err
    assert err.count("\n") == 1


def test_fetch_lists_the_public_files(capsys):
    assert main(["fetch"]) == 0
    out = capsys.readouterr().out
    for name, file in fetch.FILES.items():
        assert name in out
        assert file.base_url in out


def test_fetch_takes_a_local_copy_and_prints_its_path(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERASTAG_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.csv").write_text("label,count\n/m/09x0r,5\n", encoding="utf-8")
    assert main(["fetch", "audioset_label_quality", "--from", str(tmp_path / "mine.csv")]) == 0
    path = tmp_path / "home" / "qa_true_counts.csv"
    assert capsys.readouterr().out.strip() == str(path)
    assert path.read_text(encoding="utf-8") == "label,count\n/m/09x0r,5\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tag", "x.wav", "--model", "gone.keras"], "`model` must be a file or one of esc10, mn04_as"),
        (["tag", "x.wav", "--top", "0"], "`top` must be an integer of at least 1"),
        (["import", "efficientat", "gone.pt", "--output", "x.keras"], "gone.pt"),
        (["import", "panns", "gone.pth", "--output", "x.keras"], "gone.pth"),
        (["import", "talnet", "x.pt", "--output", "x.keras", "--normalizer", "gone.npz"], "gone.npz: no such file"),
        (["import", "panns", "gone.pth", "--output", "x.h5"], "`output` must end in .keras"),
        (["import", "panns", "x.pth", "--output", "x.keras", "--labels", "gone.csv"], "gone.csv: no such"),
        (["import", "vggish", "gone.ckpt", "--pca", "gone.npz", "--output", "x.keras"], "gone.npz"),
        (["fetch", "mn03_as"], "`name` must be one of audioset_features"),
        (["export", "x.keras", "--target", "gone", "--output", "x.tflite"], "'gone'"),
    ],
)
def test_an_error_is_one_line_and_a_status(arguments, message, capsys):
    assert main(arguments) == 1
    err = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(err) == 1
    assert err[0].startswith(f"kerastag {arguments[0]}: error: ")
    assert message in err[0]


def test_debug_shows_the_traceback():
    with pytest.raises(FileNotFoundError):
        main(["tag", "x.wav", "--model", "gone.keras", "--debug"])


def test_an_interrupt_is_one_line_and_status_130(monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "fetch", interrupt)
    assert main(["fetch", "mn04_as"]) == 130
    assert capsys.readouterr().err == "kerastag fetch: interrupted\n"


@pytest.mark.slow
@pytest.mark.real
def test_import_and_tag_name_the_sounds_of_real_recordings(tmp_path, capsys):
    model = str(tmp_path / "mn04.keras")
    assert main(["import", "efficientat", str(MN04), "--output", model]) == 0
    assert capsys.readouterr().out.strip() == model
    assert Card.read(model).origin == "EfficientAT, mn04_as_mAP_432.pt"
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    clips = [str(SHARED / f"data/audio/{name}.wav") for name in ("typing", "music")]
    assert main(["tag", clips[0], str(bad), clips[1], "--model", model, "--top", "1", "--format", "json"]) == 1
    out, err = capsys.readouterr()
    typing, music = json.loads(out)
    assert [typing["tags"][0]["name"], music["tags"][0]["name"]] == ["Computer keyboard", "Music"]
    np.testing.assert_allclose(
        [typing["tags"][0]["probability"], music["tags"][0]["probability"]], [0.897, 0.567], atol=5e-4
    )
    assert sum(str(bad) in line for line in err.splitlines()) == 2  # at once, and in the list at the end


@needs_unicode_names
def test_names_that_the_encoding_of_a_pipe_lacks_do_not_end_a_batch(tmp_path):
    for name in ("a.wav", "b_鳥.wav", "c.wav"):
        soundfile.write(tmp_path / name, np.zeros(16_000), 16_000)
    code = f"from kerastag.cli import main; main(['tag', {str(tmp_path)!r}, '--format', 'csv', '--threshold', '0'])"
    rows = run_python(code, {"PYTHONIOENCODING": "cp1252"}).splitlines()[1:]
    names = {row.split(",")[0] for row in rows}
    assert names == {str(tmp_path / name) for name in ("a.wav", r"b_\u9ce5.wav", "c.wav")}
