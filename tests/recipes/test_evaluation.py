"""Tests of finished runs evaluated again: from their files, on another pack, and as an ensemble."""

import json

import keras
import numpy as np
import pytest
from recipes.conftest import LAST_LINE, guess, read_error_line, train

from kerastag.__main__ import main
from kerastag.data.batches import scale
from kerastag.data.packs import FeaturePack
from kerastag.metrics import compute_metrics
from kerastag.recipes._evaluation import compute_run_metrics, evaluate_ensemble, evaluate_run, load_run, predict_run
from kerastag.training.outputs import select_training_outputs


def test_a_run_evaluated_again_from_its_files_has_the_same_metrics(run, capsys):
    before = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["ensemble"]
    metrics = evaluate_run(run)
    assert (metrics.map, metrics.mauc) == pytest.approx((before["map"], before["mauc"]), abs=1e-9)
    assert LAST_LINE.fullmatch(capsys.readouterr().out.splitlines()[-1])
    next((run / "checkpoints").iterdir()).unlink()
    with pytest.raises(ValueError, match="an unfinished run: 1 of 2 checkpoints"):
        evaluate_run(run)
    with pytest.raises(FileNotFoundError, match=r"not a run folder \(no config.json\)"):
        evaluate_run(run / "checkpoints")


def test_a_run_is_evaluated_on_another_pack(packs, finished, tmp_path, capsys):
    """As if it had been evaluated there at the end of its training, even where the run held clips out."""
    assert train(packs, tmp_path / "run", "--eval-pack", "bal_train") == 0
    expected = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    metrics = compute_run_metrics(load_run(finished, packs, "bal_train"))
    assert metrics["ensemble"]["map"] == pytest.approx(expected["ensemble"]["map"], abs=1e-9)
    assert metrics["class_counts"] == expected["class_counts"]
    capsys.readouterr()
    assert main(["evaluate", str(finished), "--data-dir", str(packs), "--eval-pack", "bal_train"]) == 0
    out, err = capsys.readouterr()
    assert f"mAP {expected['ensemble']['map']:.4f}" in out.splitlines()[-1]
    assert "at the end of the run" not in err
    assert train(packs, tmp_path / "held_out", "--hold-out", "0.25") == 0
    assert len(load_run(tmp_path / "held_out", eval_pack="eval").data.targets) == 40
    capsys.readouterr()
    assert main(["evaluate", str(finished), "--eval-pack", "missing"]) == 1
    assert "missing.h5" in read_error_line(capsys)
    assert guess(packs, tmp_path / "guess", "--hold-out", "0.25") == 0
    with pytest.raises(ValueError, match="guess: `eval_pack` must not be given, since random_guess would be fitted"):
        load_run(tmp_path / "guess", eval_pack="eval")


def test_the_saved_model_can_have_the_mean_of_the_weights_of_the_checkpoints(packs, finished, tmp_path, capsys):
    assert train(packs, tmp_path / "run", "--swa", "true") == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    plain = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["ensemble"], metrics["last"]) == (plain["ensemble"], plain["last"])
    model, other = (keras.saving.load_model(f / "model.keras", compile=False) for f in (tmp_path / "run", finished))
    other = select_training_outputs(other)
    checkpoints = []
    for path in sorted((finished / "checkpoints").iterdir()):
        other.load_weights(path)
        checkpoints.append(other.get_weights())
    assert len(checkpoints) == 2
    for value, *values in zip(select_training_outputs(model).get_weights(), *checkpoints, strict=True):
        np.testing.assert_allclose(value, np.mean(values, axis=0), rtol=1e-6)
    assert "| mean of their weights (model.keras) |" in (tmp_path / "run/table.md").read_text(encoding="utf-8")
    again = compute_run_metrics(load_run(tmp_path / "run"))
    for part in ("ensemble", "averaged", "last", "train"):
        assert again[part]["map"] == pytest.approx(metrics[part]["map"], abs=1e-9)
    assert len({metrics[part]["mauc"] for part in ("averaged", "last")}) == 2


def test_several_runs_are_evaluated_as_an_ensemble(packs, finished, tmp_path, capsys):
    other = tmp_path / "other"
    assert train(packs, other, "--seed", 1) == 0
    separate = [evaluate_run(folder) for folder in (finished, other)]
    capsys.readouterr()
    assert main(["evaluate", str(finished), str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for folder, metrics, line in zip((finished, other), separate, lines[2:], strict=False):
        assert line == f"| {folder} | {metrics.map:.4f} | {metrics.mauc:.4f} | {metrics.d_prime:.3f} |"
    # The checkpoints of both runs, each with the same weight.
    x, lengths, targets = FeaturePack(packs / "eval.h5").rows(np.arange(40))
    models = [keras.saving.load_model(folder / "model.keras", compile=False) for folder in (finished, other)]
    scores = []
    for model, folder in zip(models, (finished, other), strict=True):
        for path in sorted((folder / "checkpoints").glob("step_*.weights.h5")):
            select_training_outputs(model).load_weights(path)
            scores.append(np.asarray(model(scale(x, lengths))["clipwise"]))
    assert len(scores) == 4
    assert lines[-1] == compute_metrics(targets, np.mean(scores, axis=0)).format_line()


def test_the_predictions_of_a_run_are_those_of_its_metrics(packs, finished):
    data, predictions = predict_run(finished, packs)
    before = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))["ensemble"]
    metrics = compute_metrics(data.targets, predictions)
    assert (metrics.map, metrics.mauc) == pytest.approx((before["map"], before["mauc"]), abs=1e-6)
    clips = load_run(finished, packs).data
    np.testing.assert_array_equal(clips.targets, data.targets)
    assert not clips.has_events
    with pytest.raises(FileNotFoundError, match=r"eval.tsv: no such file"):
        clips.events()


def test_runs_that_do_not_make_an_ensemble_are_named(packs, finished, tmp_path):
    assert train(packs, tmp_path / "held_out", "--hold-out", "0.25") == 0
    with pytest.raises(ValueError, match=f"{tmp_path / 'held_out'}: was evaluated on other clips than {finished}"):
        evaluate_ensemble([finished, tmp_path / "held_out"])
    assert guess(packs, tmp_path / "guess") == 0
    with pytest.raises(ValueError, match="guess: random_guess has no network whose predictions"):
        evaluate_ensemble([tmp_path / "guess", finished])
    with pytest.raises(ValueError, match="`paths` must hold at least one run folder; received: none"):
        evaluate_ensemble([])
