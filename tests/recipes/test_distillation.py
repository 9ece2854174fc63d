"""Tests of networks that learn from finished runs."""

import numpy as np
import pytest

from kerastag.data.batches import EmbeddingBatches
from kerastag.data.synthetic_features import write_synthetic_packs
from kerastag.models.loading import load_model
from kerastag.recipes import decision_attention, feature_attention, random_guess
from kerastag.training.outputs import select_training_outputs
from kerastag.training.run_data import load_run_data, make_sampler
from kerastag.training.run_folder import RunFolder

NETWORK = ("--steps", "6", "--batch-size", "12", "--units", "4", "--depth", "1", "--checkpoints", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with packs and two finished runs."""
    folder = tmp_path_factory.mktemp("distillation")
    write_synthetic_packs(folder / "packs", num_train=80, num_eval=40, num_classes=4, num_features=6)
    write_synthetic_packs(folder / "other_packs", num_train=80, num_eval=40, num_classes=5, num_features=6)
    assert train(decision_attention, folder, "decisions", *NETWORK) == 0
    assert train(feature_attention, folder, "features", *NETWORK) == 0
    assert train(random_guess, folder, "guess") == 0
    return folder


def train(recipe, folder, run, *more):
    return recipe.main(["--data-dir", str(folder / "packs"), "--run-dir", str(folder / run), *more])


def make_batches(folder, **fields):
    recipe = feature_attention.RECIPE
    teachers = tuple(str(folder / name) for name in ("decisions", "features"))
    values = {"teachers": teachers, "batch_size": 12, "mixup": 1.0, "teacher_batches": 3, **fields}
    config = recipe.configure(data_dir=str(folder / "packs"), train_packs=("bal_train",), **values)
    data = load_run_data(config, folder / "packs")
    run = RunFolder.create(folder / f"student_{len(list(folder.iterdir()))}", recipe.name, config)
    sampler = make_sampler(config, data)
    plain = EmbeddingBatches(data.train, sampler, data.train_rows, mixup=config.mixup)
    return plain, recipe.task.batches(config, data, sampler, run)


def predict(run, x):
    return select_training_outputs(load_model(run / "model.keras"))(x).numpy()


def test_targets_are_blended_with_what_the_teachers_predict_for_the_same_mixed_clips(folder):
    plain, distilled = make_batches(folder, teacher_share=0.75)
    for index in (0, 2):
        (x, labels), (same_x, target) = plain.batch(index), distilled.batch(index)
        np.testing.assert_array_equal(x, same_x)
        predictions = (predict(folder / "decisions", x) + predict(folder / "features", x)) / 2
        np.testing.assert_allclose(target, 0.25 * labels + 0.75 * predictions, atol=1e-5)
        assert target.dtype == np.float32


def test_a_teacher_that_is_named_twice_has_twice_the_weight_and_predicts_once(folder, capsys):
    names = ("decisions", "features", "decisions")
    _, distilled = make_batches(folder, teachers=tuple(str(folder / name) for name in names), teacher_share=1.0)
    x, target = distilled.batch(0)
    predictions = (2 * predict(folder / "decisions", x) + predict(folder / "features", x)) / 3
    np.testing.assert_allclose(target, predictions, atol=1e-5)
    assert capsys.readouterr().err.count(f"teacher {folder / 'decisions'}: checkpoint 1 of ") == 1


def test_batches_are_repeated(folder):
    plain, distilled = make_batches(folder)
    for array, repeated in zip(distilled.batch(1), distilled.batch(4), strict=True):
        np.testing.assert_array_equal(array, repeated)
    assert not np.array_equal(plain.batch(1)[0], plain.batch(4)[0])


def test_a_run_learns_from_its_teachers_and_leaves_no_predictions_behind(folder, capsys):
    options = ("--teachers", f'["{folder / "decisions"}"]', "--teacher-batches", "2", "--teacher-share", "1")
    assert train(feature_attention, folder, "run", *NETWORK, *options) == 0
    assert f"teacher {folder / 'decisions'}: checkpoint 1 of " in capsys.readouterr().err
    assert (folder / "run" / "metrics.json").is_file()
    assert not list((folder / "run").glob("*.npy"))


@pytest.mark.parametrize(
    ("teacher", "more", "message"),
    [
        ("guess", (), "guess: must be a run of a network that takes embeddings; received: random_guess"),
        ("nothing", (), "nothing: not a run folder (no config.json)"),
        ("decisions", ("--data-dir", "other_packs"), "decisions: must have the classes of other_packs/bal_train.h5"),
        ("decisions", ("--single-segments", "true"), "`teachers` must be empty with `single_segments`"),
        ("decisions", ("--teacher-share", "1.5"), "`teacher_share` must be in [0, 1]; received: 1.5"),
        (
            "decisions",
            ("--num-processes", "2", "--coordinator", "localhost:1"),
            "`num_processes` must be 1 with `teachers`; received: 2",
        ),
        ("decisions", ("--teacher-batches", "0"), "`teacher_batches` must be at least 1; received: 0"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_in_one_line(
    folder, tmp_path, capsys, monkeypatch, teacher, more, message
):
    monkeypatch.chdir(folder)
    arguments = ("--data-dir", "packs", "--run-dir", str(tmp_path / "run"), *NETWORK, "--teachers", f'["{teacher}"]')
    assert feature_attention.main([*arguments, *more]) != 0
    assert message in capsys.readouterr().err.splitlines()[-1]
