"""SavedModels where TensorFlow Serving would run them: loaded and run without Keras and kerastag, and warmed up."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from export.small_models import CLASSES, skip_usage

from checks import ROOT
from kerastag.export import export_model, read_target

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")
KIT = ROOT / "export" / "tensorflow_serving"


@pytest.fixture(scope="module")
def versions(tagger_file: Path, head_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Export a tagger of waveforms of one second, and an attention head over embeddings; return version 1 of each."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        skip_usage(patch)
        for name, path in (("tagger", tagger_file), ("head", head_file)):
            export_model(path, read_target("saved_model"), folder / name)
    return {name: folder / name / "1" for name in ("tagger", "head")}


def read_signatures(folder: Path) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Read the names of the tensors of all signatures from `saved_model.pb`."""
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return {
        name: tuple({key: tensor.name for key, tensor in tensors.items()} for tensors in (each.inputs, each.outputs))
        for name, each in message.meta_graphs[0].signature_def.items()
    }


def run_python(*arguments: Any, **variables: str) -> str:
    """Run Python in isolated mode, which cannot import from the checkout, and return what it prints."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_c_library_runs_batches_of_any_size_without_keras_and_kerastag(
    versions: dict[str, Path], tagger_file: Path, tmp_path: Path
) -> None:
    libraries = Path(importlib.util.find_spec("tensorflow").origin).parent
    if not (libraries / "libtensorflow_cc.so.2").exists():
        pytest.skip("this TensorFlow has no libtensorflow_cc.so.2")
    network = keras.saving.load_model(tagger_file)
    inputs, outputs = read_signatures(versions["tagger"])["serving_default"]
    for batch, samples in ((1, 32_000), (3, 20_000)):
        waveforms = 0.1 * np.random.default_rng(batch).standard_normal((batch, samples)).astype(np.float32)
        np.save(tmp_path / "x.npy", waveforms)
        arguments = [inputs["waveform"], tmp_path / "x.npy", outputs["clipwise"], tmp_path / "y.npy"]
        run_python("-I", ROOT / "tests/export/run_saved_model.py", libraries, versions["tagger"], *arguments)
        actual = np.load(tmp_path / "y.npy")
        assert actual.shape == (batch, len(CLASSES))
        np.testing.assert_allclose(actual, network(waveforms)["clipwise"], rtol=0, atol=1e-5)


_RUN_WARMUP = """
import sys
sys.modules["keras"] = sys.modules["kerastag"] = None  # an import of either fails
import tensorflow as tf
from google.protobuf.unknown_fields import UnknownFieldSet
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

tf1 = tf.compat.v1
for folder in sys.argv[1:]:
    with tf1.Session(graph=tf1.Graph()) as session:
        signatures = tf1.saved_model.loader.load(session, ["serve"], folder).signature_def
        for record in tf1.io.tf_record_iterator(folder + "/assets.extra/tf_serving_warmup_requests"):
            log = PredictionLog.FromString(record)
            assert not len(UnknownFieldSet(log)) and not len(UnknownFieldSet(log.predict_log.request))
            request = log.predict_log.request
            signature = signatures[request.model_spec.signature_name]
            assert set(request.inputs) == set(signature.inputs), request.inputs
            feed = {signature.inputs[name].name: tf.make_ndarray(x) for name, x in request.inputs.items()}
            result = session.run({name: x.name for name, x in signature.outputs.items()}, feed)
            shapes = {name: x.shape for name, x in result.items()}
            print(folder.split("/")[-2], request.model_spec.signature_name, shapes["clipwise"])
"""


def test_the_loader_runs_the_warmup_requests_of_every_signature_without_keras_and_kerastag(
    versions: dict[str, Path],
) -> None:
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, the messages of TensorFlow Serving")
    printed = run_python("-I", "-W", "ignore", "-c", _RUN_WARMUP, *versions.values()).splitlines()
    expected = [f"tagger {name}" for name in ("serving_default", "waveform", "wav_bytes")]
    expected += [f"head {name}" for name in ("serving_default", "embedding")]
    assert printed == [f"{each} (1, {len(CLASSES)})" for each in expected]
    for folder in versions.values():
        assert (folder / "assets.extra" / "tf_serving_warmup_requests").stat().st_size < 10_000


@pytest.mark.slow
def test_saved_model_cli_shows_named_tensors_of_any_batch_and_runs_them(
    versions: dict[str, Path], tmp_path: Path
) -> None:
    cli = ["-W", "ignore", "-m", "tensorflow.python.tools.saved_model_cli"]
    model = ["--dir", versions["tagger"], "--tag_set", "serve", "--signature_def", "serving_default"]
    shown = run_python(*cli, "show", *model)
    assert "inputs['waveform'] tensor_info:\n      dtype: DT_FLOAT\n      shape: (-1, -1)" in shown
    assert f"outputs['clipwise'] tensor_info:\n      dtype: DT_FLOAT\n      shape: (-1, {len(CLASSES)})" in shown
    np.save(tmp_path / "x.npy", np.zeros((2, 32_000), np.float32))
    run_python(*cli, "run", *model, "--inputs", f"waveform={tmp_path / 'x.npy'}", "--outdir", tmp_path)
    assert np.load(tmp_path / "clipwise.npy").shape == (2, len(CLASSES))


def test_the_configuration_of_tensorflow_serving_is_valid() -> None:
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, the messages of TensorFlow Serving")
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    text = (KIT / "models.config").read_text(encoding="utf-8")
    (model,) = text_format.Parse(text, ModelServerConfig()).model_config_list.config
    assert (model.name, model.model_platform) == ("mn04_as", "tensorflow")
    assert model.base_path == "/models/mn04_as"
