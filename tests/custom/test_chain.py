"""The deployed chain is compared with training: an intact one passes, and a difference is named with both values."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import soxr
from custom.small_runs import run_custom

from checks import SHARED
from kerastag.__main__ import main
from kerastag.custom import chain_reference
from kerastag.custom.chain import ChainError, check_chain, check_export, check_run
from kerastag.custom.chain_waveforms import compare_waveforms
from kerastag.custom.exported import export_parts, find_exported
from kerastag.data.audio_lists import Recording
from kerastag.export import export_model, parity, read_target
from kerastag.export.device import Usage
from kerastag.training.run_folder import RunFolder

RATE = 8_000
NOISE = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)


@pytest.mark.parametrize(
    ("received", "stage", "detail"),
    [
        (NOISE[:RATE], "decoder", "2.000 s in training, 1.000 s in the stream"),
        (np.roll(NOISE, 30)[:-30], "decoder", "begins at 0 s in training, +0.003750 s later in the stream"),
        (soxr.resample(NOISE, 8_000, 16_000)[: len(NOISE)], "resampler", "8000 Hz in training, 16000 Hz in the stream"),
        (np.where(np.arange(len(NOISE)) < RATE, NOISE, np.float32(0)), "decoder", "in the stream, correlation 0.7"),
        (3 * NOISE, "level", "in the stream (gain 3)"),
        (NOISE + 1, "level", "mean 0.004917 in training, 1.005 in the stream"),
        (NOISE[::-1], "decoder", "level 0.99"),
        (np.full_like(NOISE, np.nan), "decoder", "samples that are not finite"),
    ],
)
def test_a_difference_of_waveforms_is_explained(received, stage, detail):
    difference = compare_waveforms(NOISE, received, RATE)
    assert difference.stage == stage
    assert detail in difference.detail


def test_what_does_not_matter_is_no_difference():
    assert compare_waveforms(NOISE, -NOISE, RATE) is None
    assert compare_waveforms(np.zeros(100, np.float32), np.zeros(100, np.float32), RATE) is None
    padded = np.append(NOISE[: RATE // 2], np.zeros(RATE // 2, np.float32))
    assert compare_waveforms(padded, NOISE[: RATE // 2], RATE) is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["frames", "seconds"])
def test_an_intact_chain_passes(kind, request):
    chain = request.getfixturevalue("chain" if kind == "frames" else "chain_of_seconds")
    report = chain.change_embeddings(lambda bag: bag).check()
    assert report.num_clips == 3
    assert report == chain.check()
    assert str(report).startswith("the exported files compute what training did: 3 clips, embeddings within ")
    assert find_exported(chain.folder) == chain.exported


@pytest.mark.slow
def test_clips_that_are_parts_of_a_recording_or_shorter_than_a_second_pass(chain, tmp_path):
    first, second, third = chain.clips.audio
    short = tmp_path / "short.wav"
    samples, rate = soundfile.read(third.path)
    soundfile.write(short, samples[: rate // 3], rate)
    clips = [
        replace(first, start_seconds=0.7001, end_seconds=2.9),
        Recording(short, "short.wav", (0,)),
        replace(second, labeled_parts=((0.0, 1.0),)),
    ]
    assert check_chain(chain.folder, chain.exported, replace(chain.clips, audio=(*clips, NOISE))).num_clips == 2


@pytest.mark.slow
def test_a_difference_names_its_clip_and_the_number_of_clips(chain):
    other = chain.change_embeddings(lambda bag: np.full_like(bag, 1e-3))
    with pytest.raises(ChainError) as caught:
        other.check()
    assert caught.value.stage == "embedder"
    message = str(caught.value)
    assert message.startswith("the exported files do not compute what training did; the first difference is in the emb")
    assert "0.flac: " in message
    assert message.endswith("(2 of 3 clips)")  # The other one is shorter than the window.
    assert len(message.splitlines()) == 1


@pytest.mark.slow
def test_a_whole_tagger_is_checked_too(chain, tmp_path):
    output = tmp_path / "model.tflite"
    export_model(chain.folder.model_path, read_target("float16"), output, measures_usage=False)
    assert check_export(chain.folder, chain.folder.model_path, output).num_clips == 24


@pytest.mark.slow
def test_an_export_of_a_part_is_checked_and_removed_if_it_differs(chain, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parity, "measure_usage", lambda path, threads: Usage(1.0, 2.0))
    output = tmp_path / "embedder.tflite"
    command = ["export", str(chain.folder.embedder_path), "--target", "float16", "--output", str(output)]
    assert main(command) == 0
    assert "the exported files compute what training did: 24 clips" in capsys.readouterr().out.splitlines()[-1]
    original = chain_reference.read_windows

    def read_louder(*arguments):
        return (10 * window for window in original(*arguments))

    monkeypatch.setattr(chain_reference, "read_windows", read_louder)
    assert main(command) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the first difference is in the level: " in error
    assert "(gain 0.1) (24 of 24 clips)" in error
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.real
def test_a_chain_of_esc10_passes(cache_folder, tmp_path, monkeypatch):
    from kerastag.importers.efficientat import import_efficientat

    monkeypatch.setattr(parity, "measure_usage", lambda path, threads: Usage(1.0, 2.0))
    root = SHARED / "data" / "esc10"
    weights = import_efficientat(SHARED / "data/weights/mn04_as_mAP_432.pt", tmp_path / "mn04.keras")
    lines = ["path,labels"]
    for kind in ("001 - Dog bark", "002 - Rain", "009 - Rooster"):
        lines += [f"{path.relative_to(root)},{kind[6:]}" for path in sorted((root / kind).glob("*"))[:5]]
    (tmp_path / "some.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = ("--labels", str(tmp_path / "some.csv"), "--segments", "seconds", "--folds", "0")
    assert run_custom(root, weights, tmp_path / "run", *flags) == 0
    folder = RunFolder.open(tmp_path / "run")
    clips = [Recording(root / line.split(",")[0], line, (0,)) for line in lines[1:]]
    exported = export_parts(folder, clips)
    report = check_run(folder, exported)
    assert report.num_clips == 15
    assert report.probability_difference < 0.2
