"""The stories of docs/stories.md: a researcher, an engineer and an operator reach a result in time with its commands.

The clock starts after the installation, which is that of these tests.
"""

import json
import re
import shlex
import shutil
import time

import numpy as np
import pytest
import soundfile
from custom.small_runs import SMALL, backbone, cache_folder, recordings
from serving.browsers import open_browser, open_page
from serving.servers import SAMPLE_RATE, encode, run_server
from sounds import create_cries, create_rain

from checks import ROOT
from kerastag.cli import main
from kerastag.custom.ambient import split_ambient

__all__ = ["backbone", "cache_folder", "recordings"]

pytestmark = pytest.mark.slow
NUM_RECORDINGS = 1_000


def read_blocks(title, language=""):
    """Return the blocks of code below a title of the page."""
    page = (ROOT / "docs/stories.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def read_commands(title):
    """Return the arguments of the commands of `kerastag` below a title of the page."""
    return [shlex.split(line)[1:] for block in read_blocks(title) for line in block.splitlines()]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def check_clock():
    """Return a function that checks that so many minutes have not passed since the test began."""
    start = time.monotonic()

    def check(minutes):
        seconds = time.monotonic() - start
        print(f"after {seconds:.1f} s")
        assert seconds < 60 * minutes

    return check


def test_a_researcher_compares_two_systems_in_ten_minutes(place, check_clock, capsys):
    for command in read_commands("A researcher compares two systems"):
        assert main(command) == 0
    assert re.search(
        r"^difference of mAP \+0\.\d+ \(\+0\.\d+ to \+0\.\d+\): better$", capsys.readouterr().out, re.MULTILINE
    )
    [comparison] = json.loads((place / "difference.json").read_text(encoding="utf-8"))["comparisons"]
    assert comparison["verdict"] == "better"
    assert "| feature-level attention |" in (place / "tables/tables.md").read_text(encoding="utf-8").lower()
    assert (place / "tables/figure_8.png").stat().st_size > 10_000
    check_clock(10)


def test_an_engineer_has_events_of_an_exported_tagger_in_half_an_hour(
    place, check_clock, recordings, backbone, cache_folder, capsys, monkeypatch
):
    # The false alarms of an hour of synthetic sound would take minutes.
    monkeypatch.setattr(
        "kerastag.custom.false_alarms.split_ambient", lambda paths, channel: split_ambient(paths, channel, 0.02)
    )
    shutil.copytree(recordings, "my_sounds")
    learn, stream = read_commands("An engineer detects sounds of their own")
    # All sounds are alike to a backbone that was not trained.
    assert main([*learn, "--model", str(backbone), *SMALL, "--folds", "0", "--linear-similarity", "0"]) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("to stream: ")]
    assert printed[0].split()[3:8] == ["stream", *stream[1:5]]
    parts = [soundfile.read(path)[0] for path in sorted((place / "my_sounds/clicks").iterdir())[:3]]
    rate = soundfile.info(next((place / "my_sounds/clicks").iterdir())).samplerate
    silence = np.zeros(4 * rate)
    soundfile.write("street.wav", np.concatenate([silence, *parts, silence]), rate)
    assert main(stream) == 0
    lines = [json.loads(line) for line in (place / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    events = [line for line in lines if line["type"] == "event"]
    assert "clicks" in {event["name"] for event in events}
    check_clock(30)


def test_an_operator_opens_the_page_and_queries_an_archive_in_ten_minutes(place, check_clock):
    duckdb = pytest.importorskip("duckdb")
    serve, archive = read_commands("An operator runs a server and tags an archive")
    sounds = [create_rain(1, SAMPLE_RATE, seed) for seed in range(3)] + [create_cries(1, SAMPLE_RATE)]
    contents = [encode(sound) for sound in sounds]
    (place / "recordings").mkdir()
    for number in range(NUM_RECORDINGS):
        (place / f"recordings/{number:04d}.wav").write_bytes(contents[number % len(contents)])
    recording = place / "recordings/0000.wav"
    with (
        open_browser(recording) as browser,
        run_server(*serve[1:]) as server,
        open_page(browser, server.url) as page,
    ):
        page.set_input_files("#file", recording)
        page.wait_for_selector("#tags li")
        assert page.locator("#tags li").first.inner_text().startswith("Rain")
    check_clock(5)
    assert main(archive) == 0
    [query] = read_blocks("An operator runs a server and tags an archive", "sql")
    counts = dict(duckdb.sql(query).fetchall())
    assert sum(counts.values()) == NUM_RECORDINGS
    assert counts["Rain"] >= 0.75 * NUM_RECORDINGS
    check_clock(10)
