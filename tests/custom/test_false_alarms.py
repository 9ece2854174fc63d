"""From a run to thresholds in the cards of its files, and to alarms that are measured on other data."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kerastag.card import Card
from kerastag.custom import false_alarms as module
from kerastag.custom.ambient import split_ambient
from kerastag.custom.config import CustomConfig
from kerastag.custom.embeddings import load_backbone
from kerastag.custom.exported import ExportedTagger
from kerastag.custom.false_alarms import simulate_ambient, split_config_ambient, tune_alarms
from kerastag.custom.run_inputs import embed_run_clips, load_run_clips
from kerastag.custom.simulation import track_alarms
from kerastag.custom.tagger import TaggerTrainer
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE
from kerastag.edge.config import StreamConfig
from kerastag.edge.service import create_rules
from kerastag.training.run_folder import RunFolder


@pytest.fixture
def run(chain, tmp_path):
    """Return a copy of the folder of a run, and its exported files."""
    folder = RunFolder.open(shutil.copytree(chain.folder.path, tmp_path / "run"))
    files = (shutil.copy(path, tmp_path) for path in chain.exported)
    return folder, ExportedTagger(*map(Path, files))


@pytest.mark.slow
def test_ambient_sound_is_predicted_for_the_named_classes_alone(run):
    names = Card.read(run[1].head).labels.names[1::-1]
    (stream,) = simulate_ambient(split_ambient([], synthetic_hours=1 / 180)[0], run[1], names)
    tagger = run[1].open_stream()
    waveforms = [waveform for _, waveform in split_ambient([], synthetic_hours=1 / 180)[0].synthesize()]
    results = [result for waveform in waveforms for result in tagger.feed(waveform, MIX_SAMPLE_RATE)]
    results += tagger.flush()
    expected = [np.minimum(result.framewise, result.probabilities)[:, 1::-1] for result in results]
    np.testing.assert_array_equal(stream.framewise, np.concatenate(expected))
    assert stream.framewise.shape == (125, 2)  # 20 s


@pytest.mark.slow
def test_thresholds_and_rules_reach_the_stream_and_are_measured_on_other_data(run, monkeypatch):
    folder, exported = run
    monkeypatch.setattr(module, "split_config_ambient", lambda config: split_ambient([], synthetic_hours=1 / 18))
    config = replace(folder.read_config(CustomConfig), folds=3, false_alarms_per_day=500.0)
    backbone = load_backbone(Path(config.model))
    clips, embeddings = embed_run_clips(config, backbone, load_run_clips(config, backbone.card.sample_rate))
    trainer = TaggerTrainer(config, backbone, clips, embeddings)
    _, head = trainer.train("frames", np.arange(len(clips)), 0)
    weights = head.model.get_weights()
    report = tune_alarms(trainer, "frames", head, folder, exported)
    for before, after in zip(weights, head.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    names = [alarms.name for alarms in report.classes]
    assert names == ["bursts", "clicks", "hums"]
    for path in (folder.model_path, folder.head_path, exported.head):
        card = Card.read(path)
        thresholds = dict(zip(card.labels.names, card.thresholds, strict=True))
        assert tuple(thresholds[name] for name in names) == report.point.thresholds
        assert card.thresholds_origin == "500 false alarms per day and class, from 0.1 h of ambient sound"
    tagger = exported.open_stream()
    rules = create_rules(StreamConfig(), tagger, [tagger.labels.names.index(name) for name in names])
    assert rules == report.point.create_rules()
    second = simulate_ambient(split_ambient([], synthetic_hours=1 / 18)[1], exported, names)
    alarms = [alarm.class_index for stream in second for alarm in track_alarms(stream, rules)]
    assert [alarms.count(k) for k in range(3)] == [each.false_alarms for each in report.classes]
    assert [each.num_events for each in report.classes] == [9, 9, 9]  # three clips of a fold at three levels
    assert {each.num_others for each in report.classes} == {18}
    assert report.as_dict()["classes"][0]["name"] == "bursts"


def test_recordings_and_other_sounds_of_a_configuration_are_ambient_sound(recordings, tmp_path):
    config = CustomConfig(audio_dir="x", ambient=str(recordings / "hums"), other_sounds=str(recordings / "clicks"))
    first, second = split_config_ambient(config)
    assert len(first.paths) == 18
    lengths = [sum(map(len, half.read_recordings(1_000))) for half in (first, second)]
    assert min(lengths) > 0
    with pytest.raises(FileNotFoundError, match="absent: no such recording or folder"):
        split_config_ambient(replace(config, ambient=str(tmp_path / "absent")))
