"""The export of a model, which keeps a file that predicts what Keras predicts, and no other."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from export.small_models import CLASSES, make_card, needs_quantizer, save_model, skip_usage

from kerastag.__main__ import main
from kerastag.card import Card
from kerastag.cli.export import _read_run_card
from kerastag.edge.runtime import INTERPRETER_KEY, LiteRTModel
from kerastag.export import (
    ExportReport,
    ParityError,
    Target,
    Tolerance,
    export_model,
    parity,
    read_target,
    report,
)
from kerastag.export.quantization import read_operations
from kerastag.export.source import read_source
from kerastag.labels import LabelSet
from kerastag.models import saved_files

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")


@pytest.fixture(autouse=True)
def _no_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure time and memory only of `exported`, a fixture of the module."""
    skip_usage(monkeypatch)


@pytest.fixture(scope="module")
def exported(head_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    output = tmp_path_factory.mktemp("out") / "attention.tflite"
    stale = output.with_name(".4194305-files.attention.tflite")  # no process has this number
    stale.mkdir()
    (stale / "attention.tflite").write_bytes(b"half a file")
    return output, export_model(head_file, read_target("float32"), output)


def test_the_file_predicts_what_keras_predicts_and_the_report_is_beside_it(
    exported: tuple[Path, ExportReport], head_file: Path
) -> None:
    output, export_report = exported
    network = keras.saving.load_model(head_file)
    x = np.random.default_rng(3).integers(-128, 128, (3, 10, 128)).astype(np.float32) / 128
    x[2, 4:] = 0
    expected, actual = network.predict(x, verbose=0), LiteRTModel(output)(x)
    assert expected["clipwise"].std() > 0.02
    for name in ("clipwise", "framewise"):
        np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=1e-5)
    values = json.loads(output.with_name("attention.parity.json").read_text(encoding="utf-8"))
    assert values == export_report.as_dict()
    assert values["size_bytes"] == output.stat().st_size
    for threads in ("1", "2"):
        assert 0 < values["use"][threads]["milliseconds"] < 1_000
        assert 20 < values["use"][threads]["peak_mb"] < 400  # NumPy and an interpreter; TensorFlow alone takes 800


def test_the_file_contains_the_card(exported: tuple[Path, ExportReport]) -> None:
    card = Card.read(exported[0])
    assert card.labels == CLASSES
    assert card.origin == "a test; exported as float32"
    assert {"kerastag", "export keras", "export tensorflow"} <= card.versions.keys()
    assert INTERPRETER_KEY not in card.versions


@needs_quantizer
def test_int8_calibrates_its_ranges_on_a_pack_and_is_evaluated_on_one(
    head_file: Path, embedding_pack: Path, tmp_path: Path
) -> None:
    target = dataclasses.replace(read_target("int8"), tolerance=Tolerance(clipwise=0.3, framewise=1, map_loss=0.2))
    output = tmp_path / "head.tflite"
    export_report = export_model(
        head_file, target, output, evaluation=embedding_pack, recordings=embedding_pack / "eval.h5"
    )
    assert export_report.clips == 40
    assert export_report.map_keras is not None
    assert export_report.map_keras != export_report.map_file
    assert "QUANTIZE" in {operation.kind for operation in read_operations(output.read_bytes())}
    assert "mAP of 40 clips, Keras" in export_report.as_markdown()
    assert Card.read(output).versions[INTERPRETER_KEY] == "ai_edge_litert"


def test_a_file_over_its_tolerance_is_removed_and_the_previous_one_stays(
    head_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (parity, report):
        monkeypatch.setattr(module, "ROUNDINGS", 0)  # so that a difference in the last digit is too much
    output = tmp_path / "attention.tflite"
    output.write_bytes(b"the previous file")
    strict = Target(name="strict", tolerance=Tolerance(clipwise=0))
    with pytest.raises(ParityError, match=r"attention.tflite: not kept.*`clipwise` differs by .* allowed 0"):
        export_model(head_file, strict, output)
    assert [path.name for path in tmp_path.iterdir()] == ["attention.tflite"]
    assert output.read_bytes() == b"the previous file"


def test_the_files_of_a_killed_export_are_removed_by_the_next_one(exported: tuple[Path, ExportReport]) -> None:
    names = sorted(path.name for path in exported[0].parent.iterdir())
    assert names == ["attention.parity.json", "attention.tflite"]


def test_an_operation_that_tflite_does_not_have_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(saved_files._CLASSES, "keras.src.ops.linalg.Det", None)  # no file of kerastag has it
    inputs = keras.Input((None, 4), name="embedding")
    square = keras.ops.matmul(keras.ops.transpose(inputs, (0, 2, 1)), inputs)  # (batch, 4, 4)
    sums = keras.ops.reshape(keras.ops.det(square), (-1, 1))
    model, card = keras.Model(inputs, {"clipwise": sums}), make_card("vggish", 9.6, 0.96, None)
    path = save_model(model, card, tmp_path / "det.keras")
    with pytest.raises(ValueError, match="operations that TFLite does not have: .*Determinant"):
        export_model(path, read_target("float32"), tmp_path / "det.tflite")
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["det.keras"]


@pytest.fixture(scope="module")
def old_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Write a run folder as versions before 0.1.0 did, with a model in bfloat16 that has no card."""
    from kerastag.models import MODELS

    run = tmp_path_factory.mktemp("run")
    keras.config.set_dtype_policy("mixed_bfloat16")
    network = MODELS["es_average"].build(num_classes=2, units=8, depth=1)
    network.save(run / "model.keras")
    labels = {"mids": ["/m/bark", "/m/rain"], "names": ["Bark, loud", "Rain"]}
    settings = {"system": "es_average", "train_packs": ["bal_train"], "normalise_input": False}
    for name, values in (("settings", settings), ("metrics", {"labels": labels}), ("versions", {"keras": "3.15.0"})):
        (run / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
    keras.config.set_dtype_policy("float32")
    return run, network


def test_an_old_run_of_embeddings_is_exported_with_its_classes_and_in_float32(
    old_run: tuple[Path, Any], tmp_path: Path
) -> None:
    run, network = old_run
    assert _read_run_card(run) == _read_run_card(run / "model.keras")
    assert main(["export", str(run), "--target", "float32", "--output", str(tmp_path / "run.tflite")]) == 0
    model = LiteRTModel(tmp_path / "run.tflite")
    assert model.card.labels is not None
    assert model.card.labels.names == ("Bark, loud", "Rain")
    assert (model.card.window_seconds, model.card.seconds_per_frame) == (10.0, 1.0)
    assert model.card.origin.startswith("es_average, trained by kerastag on bal_train")
    assert model.shape == (1, 10, 128)
    x = np.full((1, 10, 128), 0.37, np.float32)  # 0.3691 in bfloat16
    dense, classes = (layer for layer in network.layers if isinstance(layer, keras.layers.Dense))
    # Batch normalization with its initial statistics divides by sqrt(1 + 1e-3).
    hidden = np.maximum(x[0, 0] / 1.001**0.5 @ np.asarray(dense.kernel), 0) / 1.001**0.5
    logits = hidden @ np.asarray(classes.kernel) + np.asarray(classes.bias)
    np.testing.assert_allclose(model(x)["clipwise"][0], 1 / (1 + np.exp(-logits)), rtol=0, atol=1e-5)


def test_a_model_without_a_card_is_read_with_a_given_one_and_refused_without(
    old_run: tuple[Path, Any], tmp_path: Path
) -> None:
    path = tmp_path / "lone.keras"
    shutil.copy(old_run[0] / "model.keras", path)
    with pytest.raises(ValueError, match=r"lone.keras: .*card.*: kerastag export RUN"):
        export_model(path, Target(name="x"), tmp_path / "lone.tflite")
    card = make_card("vggish", 10.0, 1.0, LabelSet.from_names(["Bark", "Rain"]))
    assert read_source(path, card).card == card


@pytest.mark.parametrize(
    ("target", "output", "message"),
    [
        ("float32", "model.bin", r"`output` must end in .tflite for target float32; received: .*model.bin"),
        ("int8", "model.tflite", r"target int8 needs `--representative`"),
        ("saved_model", "file", r"`output` must be a new folder, or a folder of numbered versions"),
    ],
)
def test_wrong_arguments_are_refused(target: str, output: str, message: str, head_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        export_model(head_file, read_target(target), tmp_path / output)


def test_targets_and_packs_that_do_not_fit_the_model_are_refused(
    head_file: Path, tagger_file: Path, embedding_pack: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match=r"`input` of the target must be embedding .*; received: 'waveform'"):
        export_model(head_file, Target(name="x", input="waveform"), output)
    message = r"`outputs` of the target must be among clipwise, framewise .*; received: speech"
    with pytest.raises(ValueError, match=message):
        export_model(head_file, Target(name="x", outputs=("speech",)), output)
    with pytest.raises(ValueError, match=r"eval.h5: must hold what the model takes, waveform; received: embeddings"):
        export_model(tagger_file, Target(name="x"), output, evaluation=embedding_pack)


def test_missing_and_damaged_models_are_refused(head_file: Path, embedding_pack: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.tflite"
    with pytest.raises(FileNotFoundError, match=r"absent.keras: no such file"):
        export_model(tmp_path / "absent.keras", Target(name="x"), output)
    (tmp_path / "broken.keras").write_bytes(head_file.read_bytes()[:5_000])
    with pytest.raises(ValueError, match=r"broken.keras: has no card, or is damaged"):
        export_model(tmp_path / "broken.keras", Target(name="x"), output)
    with pytest.raises(FileNotFoundError, match=r"no model.keras in this folder"):
        export_model(embedding_pack, Target(name="x"), output)
    (tmp_path / "yamnet.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    with pytest.raises(ValueError, match=r"yamnet.tflite: must be a .keras file, which `kerastag train` and"):
        export_model(tmp_path / "yamnet.tflite", Target(name="x"), output)
