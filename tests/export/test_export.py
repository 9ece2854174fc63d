"""A model becomes a file that says what Keras says, or no file at all."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from export.small_models import CLASSES, card_of, needs_quantizer, saved, without_measuring

from kerastag.card import Card
from kerastag.edge.runtime import NEEDS, LiteRTModel
from kerastag.export import parity
from kerastag.export.export import export
from kerastag.export.graph import operations
from kerastag.export.target import Target, Tolerance, read_target

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")


@pytest.fixture(autouse=True)
def no_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time and memory are measured of `exported`, which is made before; others need not."""
    without_measuring(monkeypatch)


@pytest.fixture(scope="module")
def exported(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, parity.Report]:
    output = tmp_path_factory.mktemp("out") / "attention.tflite"
    return output, export(heads, read_target("float32"), output)


def test_it_says_what_keras_says_and_is_measured(exported: tuple[Path, parity.Report], heads: Path) -> None:
    output, report = exported
    network = keras.saving.load_model(heads)
    x = np.random.default_rng(3).integers(-128, 128, (3, 10, 128)).astype(np.float32) / 128
    x[2, 4:] = 0
    expected, actual = network.predict(x, verbose=0), LiteRTModel(output)(x)
    assert expected["clipwise"].std() > 0.02
    for name in ("clipwise", "framewise"):
        np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=1e-5)
    kept = json.loads(output.with_name("attention.parity.json").read_text())
    assert kept == report.as_dict()
    assert kept["size_bytes"] == output.stat().st_size
    for threads in ("1", "2"):
        assert 0 < kept["use"][threads]["milliseconds"] < 1_000
        assert 20 < kept["use"][threads]["peak_mb"] < 400  # NumPy and an interpreter; TensorFlow alone takes 800


def test_the_card_travels_inside(exported: tuple[Path, parity.Report]) -> None:
    card = Card.read(exported[0])
    assert card.labels == CLASSES
    assert card.origin == "made in a test; exported as float32"
    assert {"kerastag", "export keras", "export tensorflow"} <= card.versions.keys()
    assert NEEDS not in card.versions


@needs_quantizer
def test_int8_takes_its_ranges_from_a_pack_and_is_measured_on_one(
    heads: Path, embedding_pack: Path, tmp_path: Path
) -> None:
    target = dataclasses.replace(read_target("int8"), tolerance=Tolerance(clipwise=0.3, framewise=1, map_loss=0.2))
    output = tmp_path / "head.tflite"
    report = export(heads, target, output, evaluation=embedding_pack, recordings=embedding_pack / "eval.h5")
    assert report.clips == 40
    assert report.map_keras is not None
    assert report.map_keras != report.map_file
    assert "QUANTIZE" in {operation.kind for operation in operations(output.read_bytes())}
    assert "mAP of 40 clips, Keras" in report.table()
    assert Card.read(output).versions[NEEDS] == "ai_edge_litert"


def test_over_its_tolerance_nothing_is_left_and_the_old_file_stays(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "ROUNDINGS", 0)  # the last digit is too much
    output = tmp_path / "attention.tflite"
    output.write_bytes(b"what was there")
    strict = Target(name="strict", tolerance=Tolerance(clipwise=0))
    with pytest.raises(parity.ParityError, match=r"attention.tflite: not kept.*`clipwise` differs by .* allowed 0"):
        export(heads, strict, output)
    assert [path.name for path in tmp_path.iterdir()] == ["attention.tflite"]
    assert output.read_bytes() == b"what was there"


def test_an_operation_outside_tflites_own_is_refused_by_its_name(tmp_path: Path) -> None:
    inputs = keras.Input((None, 4), name="embedding")
    square = keras.ops.matmul(keras.ops.transpose(inputs, (0, 2, 1)), inputs)  # (batch, 4, 4)
    sums = keras.ops.reshape(keras.ops.det(square), (-1, 1))
    path = saved(keras.Model(inputs, {"clipwise": sums}), card_of("vggish", 9.6, 0.96, None), tmp_path / "det.keras")
    with pytest.raises(ValueError, match="outside TFLite's own: .*Determinant"):
        export(path, read_target("float32"), tmp_path / "det.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["det.keras"]


def test_a_run_of_paper_1_is_exported_with_its_classes_and_in_float32(tmp_path: Path) -> None:
    from kerastag.models import MODELS

    run = tmp_path / "run"
    run.mkdir()
    keras.config.set_dtype_policy("mixed_bfloat16")
    network = MODELS["es_average"].build(num_classes=2, units=8, depth=1)
    network.save(run / "model.keras")
    (run / "settings.json").write_text('{"system": "es_average", "train_packs": ["bal_train"]}')
    (run / "classes.csv").write_text('index,display_name\n0,"Bark, loud"\n1,Rain\n')
    keras.config.set_dtype_policy("float32")
    export(run, read_target("float32"), tmp_path / "run.tflite")
    model = LiteRTModel(tmp_path / "run.tflite")
    assert model.card.labels is not None
    assert model.card.labels.names == ("Bark, loud", "Rain")
    assert model.shape == (1, 10, 128)
    x = np.full((1, 10, 128), 0.37, np.float32)  # bfloat16 would make it 0.3691
    dense, classes = (layer for layer in network.layers if isinstance(layer, keras.layers.Dense))
    # BatchNorm at its beginning divides by sqrt(1 + 1e-3).
    hidden = np.maximum(x[0, 0] / 1.001**0.5 @ np.asarray(dense.kernel), 0) / 1.001**0.5
    logits = hidden @ np.asarray(classes.kernel) + np.asarray(classes.bias)
    np.testing.assert_allclose(model(x)["clipwise"][0], 1 / (1 + np.exp(-logits)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("target", "output", "message"),
    [
        ("float32", "model.bin", r"`output` of target float32 must end in .tflite, received .*model.bin"),
        ("int8", "model.tflite", r"target int8 needs `--representative`"),
        ("saved_model", "file", r"`output` must be a new folder, or one of numeric versions"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(
    target: str, output: str, message: str, heads: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(ValueError, match=message):
        export(heads, read_target(target), tmp_path / output)


def test_what_the_model_cannot_take_is_refused(
    heads: Path, hearing: Path, embedding_pack: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match=r"it takes embedding, not waveform"):
        export(heads, Target(name="x", input="waveform"), output)
    with pytest.raises(ValueError, match=r"`outputs` must name one of .*it has clipwise, framewise, not speech"):
        export(heads, Target(name="x", outputs=("speech",)), output)
    with pytest.raises(ValueError, match=r"eval.h5: holds embeddings, the model takes waveform"):
        export(hearing, Target(name="x"), output, evaluation=embedding_pack)
    with pytest.raises(FileNotFoundError, match=r"there is no such model"):
        export(tmp_path / "absent.keras", Target(name="x"), output)
    (tmp_path / "broken.keras").write_bytes(heads.read_bytes()[:5_000])
    with pytest.raises(ValueError, match=r"broken.keras: has no card, or is damaged"):
        export(tmp_path / "broken.keras", Target(name="x"), output)
    with pytest.raises(FileNotFoundError, match=r"no model.keras in it"):
        export(embedding_pack, Target(name="x"), output)
