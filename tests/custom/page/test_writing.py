"""The report of a run: what it shows, with hostile names too, from saved results alone."""

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
import soundfile
from custom.saved_runs import draw_predictions, save_run

from kerastag.__main__ import main
from kerastag.custom.operating_point import ClassAlarms
from kerastag.custom.page import write_report
from kerastag.training.run_folder import RunFolder

CLASSES = ("Dog bark", "Rain", "Baby cry")
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "שלום עולם",
    "\u202efdp.txt",
    "🐶 {{ 7 * 7 }}",
    "</style></title>&lt;",
    "x" * 300,
)
VOID = {"meta", "br", "path", "circle"}


class Page(HTMLParser):
    """The elements of a page, and its text; an element that is not closed is an error."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open_tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open_tags

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag

    def handle_data(self, data):
        if self.open_tags and self.open_tags[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r" (?=[:,;.])", "", " ".join(" ".join(self.texts).split()))

    def find(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def read_page(folder):
    return Page(folder.report_path.read_text(encoding="utf-8"))


def save_small_run(path, **options):
    targets = np.eye(3, dtype=bool)[np.arange(30) % 3]
    return save_run(path, CLASSES, targets, draw_predictions(targets, sharpness=0.5), **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    gains = [[[0.4 + 0.1 * i + 0.01 * fold, 0.9, 0.8] for fold in range(3)] for i in range(3)]
    points = [
        {"share": share, "clips": [8 * share] * 3, "average_precision": precision}
        for share, precision in zip((0.25, 0.5, 1.0), gains, strict=True)
    ]
    curve = {"folds": 3, "seconds": 1.0, "points": points}
    folder = save_small_run(
        tmp_path_factory.mktemp("runs") / "run",
        errors=["/sounds/a.wav: not audio"],
        curve=curve,
        peaks=np.full((30, 3), 3),
    )
    write_report(folder)
    return folder


def test_the_report_shows_the_results_in_words(run):
    text = read_page(run).text
    probabilities = draw_predictions(np.eye(3, dtype=bool)[np.arange(30) % 3], sharpness=0.5)[0]
    hits = int((probabilities.argmax(axis=1) == np.arange(30) % 3).sum())
    assert 15 < hits < 30
    assert f"{hits} of 30; 95% interval" in text
    assert "Every recording was predicted by taggers that were not trained on it" in text
    assert "Ten more recordings of Dog bark would probably help most" in text
    assert "its average precision is 0.61 with 8 recordings to train on. Next: Baby cry (0.80 with 8)" in text
    assert "What to worry about 1 recordings could not be read" in text
    assert "/sounds/a.wav: not audio" in text
    assert "kerastag custom --audio-dir sounds --folds 3" in text
    counts = [list(map(int, line.split(",")[1:])) for line in run.read_text("confusion.csv").splitlines()[1:]]
    errors = {(k, j): counts[k][j] for k in range(3) for j in range(3) if k != j}
    (k, j), count = max(errors.items(), key=lambda item: item[1])
    assert f"{CLASSES[k]} predicted as {CLASSES[j]}: {count} of 10" in text


def test_the_report_needs_nothing_from_elsewhere(run):
    page = read_page(run)
    assert not page.find("link")
    assert all("src" not in attributes for attributes in page.find("script"))
    references = [
        value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")
    ]
    assert all(not urlsplit(value).scheme and not urlsplit(value).netloc for value in references)
    style = run.report_path.read_text(encoding="utf-8").partition("</style>")[0]
    assert not re.search(r"url\(|@import|https?:", style)


def test_a_report_is_written_again_from_saved_results(run, capsys):
    before = run.report_path.read_bytes(), run.predictions_path.read_bytes()
    run.report_path.unlink()
    assert main(["report", str(run.path)]) == 0
    assert capsys.readouterr().out == f"{run.report_path}\n"
    assert (run.report_path.read_bytes(), run.predictions_path.read_bytes()) == before


def test_players_start_at_the_sound_and_lead_to_the_files(tmp_path):
    names = ("a b#1?%.wav", "c:d.wav", os.fsdecode(b"\xff\xfe.wav"), "é\n.wav", "<b>'\".wav", "e.wav")
    for name in names:
        soundfile.write(tmp_path / "x.wav", np.zeros(100), 8000)
        (tmp_path / "x.wav").rename(tmp_path / name)
    targets = np.eye(2, dtype=bool)[np.arange(6) % 2]
    probabilities = (np.where(targets, 0.1, 0.9) + 0.01 * np.arange(6)[:, None])[None]  # everything is confused
    audio, peaks = [tmp_path / name for name in names], np.full((6, 2), 2.0)
    folder = save_run(tmp_path / "runs/run", ("a", "b"), targets, probabilities, audio=audio, peaks=peaks)
    write_report(folder)
    players = read_page(folder).find("audio")
    assert len(players) >= 6
    for player in players:
        address, _, fragment = player["src"].partition("#")
        assert (folder.path / os.fsdecode(unquote_to_bytes(address))).is_file()
        assert fragment in ("", "t=1.5")
        assert player["aria-label"]
    assert {unquote_to_bytes(player["src"].partition("#")[0])[6:] for player in players} == set(map(os.fsencode, names))


def test_hostile_names_are_text(tmp_path):
    targets = np.eye(len(HOSTILE), dtype=bool)[np.arange(70) % len(HOSTILE)]
    audio = [tmp_path / "sounds" / f"{HOSTILE[i % 7].replace('/', '_')}-{i}\udcff.wav" for i in range(70)]
    folder = save_run(
        tmp_path / "run", HOSTILE, targets, draw_predictions(targets, sharpness=0.7), audio=audio, errors=HOSTILE
    )
    write_report(folder)
    page = read_page(folder)
    assert len(page.find("script")) == 2
    assert not page.find("img")
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on") or key == "style"]
    for name in HOSTILE[:6]:
        assert " ".join(name.replace("\u202e", "\ufffd").split()) in page.text
    assert f"{'x' * 44}…{'x' * 44}" in page.text
    assert "x" * 91 not in page.text.partition("Recordings that were skipped")[0]


def test_a_thousand_recordings_of_fifty_classes_are_less_than_a_megabyte(tmp_path):
    names = [f"Class number {k} of fifty" for k in range(50)]
    targets = np.eye(50, dtype=bool)[np.arange(1000) % 50]
    audio = [tmp_path / ("recordings of some season/" * 4) / f"{i}.wav" for i in range(1000)]
    folder = save_run(tmp_path / "run", names, targets, draw_predictions(targets, sharpness=0.7), audio=audio)
    write_report(folder)
    assert folder.report_path.stat().st_size < 1_000_000
    assert len(read_page(folder).find("audio")) > 50


def test_of_too_many_classes_the_most_confused_ones_are_shown(tmp_path):
    names = [f"c{k}" for k in range(70)]
    targets = np.eye(70, dtype=bool)[np.arange(140) % 70]
    probabilities = np.where(targets, 0.9, 0.1)[None]
    probabilities[0, 5] = np.roll(probabilities[0, 5], 60)  # class 5 predicted as class 65
    folder = save_run(tmp_path / "run", names, targets, probabilities)
    write_report(folder)
    text = read_page(folder).text
    assert "Only the 60 classes that are confused most are shown; 10 other classes are in confusion.csv" in text
    assert "c5 predicted as c65: 1 of 2" in text


def test_several_labels_have_no_accuracy_and_labels_that_are_missing(tmp_path):
    targets = np.zeros((40, 2), bool)
    targets[:20, 0] = targets[10:30, 1] = True
    probabilities = draw_predictions(targets, sharpness=3)
    probabilities[0, 2, 1] = 0.999  # recording 2 lacks a label, recording 15 has one too many
    probabilities[0, 15, 0] = 0.001
    folder = save_run(tmp_path / "run", ("a", "b"), targets, probabilities)
    write_report(folder)
    text = read_page(folder).text
    assert "Accuracy" not in text
    assert "2.wav not labeled b, which is probable (100%)" in text
    assert "15.wav labeled a, which is improbable (0%)" in text


def test_without_folds_the_report_warns_and_doubts_no_label(tmp_path):
    folder = save_small_run(tmp_path / "run", folds=0)
    write_report(folder)
    page = read_page(folder)
    assert "There was no cross-validation" in page.text
    assert "look wrong" not in page.text


def test_several_seeds_are_averaged_for_each_recording(tmp_path):
    targets = np.eye(2, dtype=bool)[np.arange(12) % 2]
    right = np.where(targets, 0.9, 0.1)
    wrong = right.copy()
    wrong[0] = [0.0, 1.0]  # On average, recording 0 is predicted as the wrong class.
    folder = save_run(tmp_path / "run", ("a", "b"), targets, np.stack([right, wrong, right, wrong]))
    write_report(folder)
    text = read_page(folder).text
    assert "11 of 12; 95% interval" in text
    assert "a predicted as b: 1 of 6" in text
    assert "Figures are over 4 seeds" in text
    assert "0.wav,0,,1,a,0.4500,0.5500\n" in folder.predictions_path.read_text(encoding="utf-8")


def test_false_alarms_of_simulated_streams_are_shown(tmp_path):
    folder = save_small_run(tmp_path / "run")
    metrics = folder.metrics()
    dog = ClassAlarms(
        name="Dog bark",
        threshold=0.5,
        is_shown=True,
        hours=12.0,
        false_alarms=3,
        per_day=6.0,
        per_day_interval=(1.2, 17.5),
        num_events=20,
        num_found=18,
        found_by_snr={"20": (18, 20)},
        share_interval=(0.7, 0.97),
        delay_seconds=1.25,
        delay_interval=(1.0, 2.0),
        num_others=10,
        num_others_claimed=0,
    )
    rain = replace(dog, name="Rain", false_alarms=0, num_found=0, delay_seconds=None, delay_interval=None)
    rows = [dog.as_dict(), rain.as_dict()]
    (folder.path / "metrics.json").write_text(json.dumps({**metrics, "alarms": rows}), encoding="utf-8")
    write_report(folder)
    text = read_page(folder).text
    assert "False alarms per day 6 of all classes; 95% interval 1.2 to 18, from 12.0 hours of background" in text
    assert re.search(r"Dog bark \d.* 6 1\.2 to 18 90% 70% to 97% 1\.2 s 1\.0 to 2\.0 s", text)


def test_what_is_missing_is_named(tmp_path):
    folder = save_small_run(tmp_path / "run")
    other = RunFolder(folder.path, "es_min", folder.config)
    with pytest.raises(ValueError, match="run: must be a run of `kerastag learn`; received: one of es_min"):
        write_report(other)
    metrics = folder.metrics()
    changed = {**metrics, "classes": metrics["classes"][:2]}
    (folder.path / "metrics.json").write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(ValueError, match="report.npz: must have 2 classes, as metrics.json; received: 3"):
        write_report(folder)
    folder.report_data_path.unlink()
    with pytest.raises(FileNotFoundError, match="report.npz: no such file: runs of earlier versions have no report"):
        write_report(folder)
    (folder.path / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match="not a finished run"):
        write_report(folder)
