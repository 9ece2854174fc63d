"""`kerastag learn`: the commands of its page, from a folder to a stream, and a second run that grows from the first."""

import json
import re
import shlex
import shutil

import pytest
from custom.small_runs import SMALL

from checks import ROOT
from kerastag.__main__ import main
from kerastag.card import Card
from kerastag.custom.__main__ import parse_arguments
from kerastag.custom.ambient import split_ambient

PAGE = (ROOT / "docs/learn.md").read_text(encoding="utf-8")
REVIEW_PAGE = (ROOT / "docs/review.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^kerastag (?:learn|review|stream) .*$", PAGE, re.M)
RECORDINGS = {"my_sounds", "recordings", "list.csv", "recordings/labels.csv"}


@pytest.fixture
def place(tmp_path, monkeypatch, recordings, cache_folder):
    """Folder in which the recordings of the page are, which is the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(recordings, "my_sounds")
    shutil.copytree(recordings, "recordings")
    for name in ("background", "other_sounds"):
        shutil.copytree(recordings / "hums", name)
    for name in ("list.csv", "recordings/labels.csv"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("kerastag learn")])
def test_a_command_of_the_page_is_a_configuration(place, command):
    config = parse_arguments(shlex.split(command)[2:], "learn")
    assert {config.audio_dir, config.labels} & RECORDINGS
    assert config.deploy


def run_command(command, backbone, *more):
    """Run a command of the page with a small model and few seconds of synthetic sound."""
    arguments = shlex.split(command)[1:]
    if arguments[0] == "learn":
        arguments += ["--model", str(backbone), *SMALL]
    return main([*arguments, *more])


@pytest.mark.slow
def test_the_page_goes_from_a_folder_to_a_stream_and_to_a_run_with_more_recordings(
    place, backbone, capsys, monkeypatch
):
    monkeypatch.setattr(
        "kerastag.custom.false_alarms.split_ambient", lambda paths, channel: split_ambient(paths, channel, 0.02)
    )
    first, stream, *_ = COMMANDS
    moved = [path.rename(place / path.name) for path in sorted((place / "my_sounds/hums").glob("*"))[:3]]
    [other] = [command for command in COMMANDS if "--other-sounds" in command]
    few = [*shlex.split(other)[3:], "--folds", "0"]  # The rest of the time would go to the taggers of each fold.
    assert run_command(first, backbone, *few) == 0
    captured = capsys.readouterr()
    names = {path.name for path in (place / "runs/first").iterdir()}
    assert names >= {"embedder.tflite", "head.tflite", "report.html", "predictions.csv", "model.keras", "metrics.json"}
    streams = [line for line in captured.out.splitlines() if line.startswith("to stream: ")]
    assert streams == ["to stream: " + stream.removesuffix(" --output terminal")]
    assert "to worry about:" in captured.out
    card = Card.read(place / "runs/first/head.tflite")
    assert card.thresholds == Card.read(place / "runs/first/model.keras").thresholds
    metrics = json.loads((place / "runs/first/metrics.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in metrics["alarms"]] == ["bursts", "clicks", "hums"]
    assert metrics["chain"].startswith("the exported files compute what training did")

    [sound] = sorted((place / "my_sounds/clicks").glob("*"))[:1]
    command = stream.replace("--source mic --output terminal", f"--source {sound} --output json:-")
    assert run_command(command, backbone) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [result["type"] for result in results].count("result") == 3  # two hops of 0.96 s and the rest
    [report] = re.findall(r"^kerastag report .*$", PAGE, re.M)
    (place / "runs/first/report.html").unlink()
    assert run_command(report.replace("runs/custom/seed_0", "runs/first"), backbone) == 0
    assert (place / "runs/first/report.html").is_file()
    [watch] = re.findall(r"^kerastag stream .*--watch-head.*$", REVIEW_PAGE, re.M)
    assert run_command(watch.replace("--source mic", f"--source {sound}"), backbone) == 0
    capsys.readouterr()

    for path in moved:
        path.rename(place / "my_sounds/hums" / path.name)
    assert run_command(first, backbone, *few) == 1
    assert "must be the folder of a new run, as my_sounds has other recordings" in capsys.readouterr().err
    [second] = [command for command in COMMANDS if command.endswith("--compare-with runs/first")]
    assert run_command(second, backbone, "--keep-base", "--deploy", "false") == 0
    assert "| hums | 6 to 9 (+3) |" in capsys.readouterr().out
    for name in ("model", "head"):
        names = Card.read(place / f"runs/second/{name}.keras").labels.names
        assert names == ("bursts", "clicks", "hums", "background", *(f"class {k}" for k in range(4)))
    assert main(["tag", str(sound), "--model", "runs/second/model.keras", "--classes", "clicks", "class 2"]) == 0
