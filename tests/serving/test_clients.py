"""Clients that were written for other servers, unmodified, and those of docs/serve.md."""

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving.servers import RunningServer, create_waveform, encode, run_server

from checks import ROOT
from kerastag.bundled import BUNDLED_MODEL, resolve_model_path
from kerastag.edge.runtime import LiteRTModel
from kerastag.tagger import Tagger

requests = pytest.importorskip("requests", reason="needs requests (extra `dev`)")
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """Return a server of two versions of the bundled model, one of which has a label."""
    with run_server("--model", f"esc10:2={BUNDLED_MODEL}", "--model", f"esc10:1,stable={BUNDLED_MODEL}") as running:
        yield running


@pytest.fixture(scope="module")
def model() -> LiteRTModel:
    return LiteRTModel(resolve_model_path(BUNDLED_MODEL))


@pytest.fixture(scope="module")
def window(model: LiteRTModel) -> np.ndarray:
    """Return one window of the bundled model, `(samples,)`, in 16-bit steps."""
    waveform = create_waveform(model.shape[1] / model.card.sample_rate)
    return (np.rint(32_767 * waveform) / 32_768).astype(np.float32)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Return the recording `street.flac` of the documentation."""
    path = tmp_path / "street.flac"
    path.write_bytes(encode(create_waveform(10.0), format="FLAC"))
    return path


def assert_clipwise(actual: Any, model: LiteRTModel, *windows: np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(actual), model(np.stack(windows))["clipwise"], rtol=0, atol=1e-5)


class TestTensorFlowServing:
    """The requests of https://www.tensorflow.org/tfx/serving/api_rest."""

    def test_rows(self, server: RunningServer, model: LiteRTModel, window: np.ndarray) -> None:
        url = f"{server.url}/v1/models/esc10:predict"
        for instances in ([{"waveform": window.tolist()}], [window.tolist(), window[::-1].tolist()]):
            answer = requests.post(url, data=json.dumps({"signature_name": "serving_default", "instances": instances}))
            assert answer.status_code == 200, answer.text
            predictions = answer.json()["predictions"]
            assert set(predictions[0]) == set(model.outputs)
            windows = (window, window[::-1])[: len(instances)]
            assert_clipwise([each["clipwise"] for each in predictions], model, *windows)

    def test_columns(self, server: RunningServer, model: LiteRTModel, window: np.ndarray) -> None:
        batch = [window.tolist()]
        for path, inputs in (("esc10/versions/1", batch), ("esc10/labels/stable", {"waveform": batch})):
            answer = requests.post(f"{server.url}/v1/models/{path}:predict", json={"inputs": inputs})
            assert answer.status_code == 200, answer.text
            assert_clipwise(answer.json()["outputs"]["clipwise"], model, window)

    def test_recordings_in_base64(self, server: RunningServer, model: LiteRTModel, window: np.ndarray) -> None:
        content = {"b64": base64.b64encode(encode(window)).decode()}
        for instances in ([content], [{"wav_bytes": content}]):
            body = {"signature_name": "wav_bytes", "instances": instances}
            answer = requests.post(f"{server.url}/v1/models/esc10:predict", json=body)
            assert answer.status_code == 200, answer.text
            expected = model(window[None])["clipwise"]
            np.testing.assert_allclose([answer.json()["predictions"][0]["clipwise"]], expected, rtol=0, atol=1e-3)

    def test_status_and_metadata(self, server: RunningServer, model: LiteRTModel) -> None:
        status = requests.get(f"{server.url}/v1/models/esc10").json()["model_version_status"]
        assert [(each["version"], each["state"]) for each in status] == [("2", "AVAILABLE"), ("1", "AVAILABLE")]
        assert status[0]["status"] == {"error_code": "OK", "error_message": ""}
        metadata = requests.get(f"{server.url}/v1/models/esc10/versions/1/metadata").json()
        assert metadata["model_spec"] == {"name": "esc10", "signature_name": "", "version": "1"}
        signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["method_name"] == "tensorflow/serving/predict"
        assert signature["inputs"]["waveform"]["tensor_shape"]["dim"][0]["size"] == "-1"
        assert set(signature["outputs"]) == set(model.outputs)

    def test_errors_have_one_line(self, server: RunningServer) -> None:
        url = f"{server.url}/v1/models"
        answers = {
            400: requests.post(f"{url}/esc10:predict", data="{"),
            404: requests.post(f"{url}/esc10/versions/9:predict", json={"instances": [[0.0]]}),
        }
        for status, answer in answers.items():
            assert answer.status_code == status, answer.text
            assert list(answer.json()) == ["error"]
            assert "\n" not in answer.json()["error"]


class TestTriton:
    """The client of Triton, which KServe uses too."""

    @pytest.fixture
    def client(self, server: RunningServer) -> Iterator[Any]:
        triton = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http] (extra `dev`)")
        client = triton.InferenceServerClient(server.url.removeprefix("http://"))
        yield client
        client.close()

    def test_health_and_metadata(self, client: Any, model: LiteRTModel) -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("esc10")
        assert client.is_model_ready("esc10", "1")
        assert not client.is_model_ready("esc10", "9")
        assert client.get_server_metadata()["name"] == "kerastag"
        metadata = client.get_model_metadata("esc10")
        assert metadata["versions"] == ["2", "1"]
        assert metadata["inputs"][0] == {"name": "waveform", "datatype": "FP32", "shape": [-1, *model.shape[1:]]}
        assert {each["name"] for each in metadata["outputs"]} == set(model.outputs)

    @pytest.mark.parametrize("is_binary", [False, True])
    def test_inference(self, client: Any, model: LiteRTModel, window: np.ndarray, is_binary: bool) -> None:
        import tritonclient.http as triton

        batch = np.stack([window, window[::-1]]) if is_binary else window[None]
        waveform = triton.InferInput("waveform", batch.shape, "FP32")
        waveform.set_data_from_numpy(batch, binary_data=is_binary)
        outputs = [triton.InferRequestedOutput("clipwise", binary_data=is_binary)]
        result = client.infer("esc10", [waveform], outputs=outputs, request_id="7")
        assert result.get_response()["id"] == "7"
        assert [each["name"] for each in result.get_response()["outputs"]] == ["clipwise"]
        assert_clipwise(result.as_numpy("clipwise"), model, *batch)
        if is_binary:
            everything = client.infer("esc10", [waveform], model_version="1")
            assert {each["name"] for each in everything.get_response()["outputs"]} == set(model.outputs)
            assert_clipwise(everything.as_numpy("clipwise"), model, *batch)

    def test_errors(self, client: Any) -> None:
        import tritonclient.http as triton
        from tritonclient.utils import InferenceServerException

        waveform = triton.InferInput("waveform", [1, 5], "FP32")
        waveform.set_data_from_numpy(np.zeros((1, 5), np.float32))
        with pytest.raises(InferenceServerException, match="esc10"):
            client.infer("absent", [waveform])
        with pytest.raises(InferenceServerException, match="waveform"):
            client.infer("esc10", [waveform])


class TestHuggingFace:
    """The client of the Inference API."""

    @pytest.mark.parametrize("path", ["models", "pipeline/audio-classification"])
    def test_audio_classification(self, server: RunningServer, recording: Path, path: str) -> None:
        hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub (extra `dev`)")
        client = hub.InferenceClient(model=f"{server.url}/{path}/esc10", token="unused")
        expected = Tagger.load(BUNDLED_MODEL).tag(recording, top=10)
        for audio in (recording.read_bytes(), str(recording)):
            elements = client.audio_classification(audio)
            assert [each.label for each in elements] == [tag.name for tag in expected[:5]]
            np.testing.assert_allclose(
                [each.score for each in elements], [tag.probability for tag in expected[:5]], atol=1e-4
            )
            assert [each.label for each in client.audio_classification(audio, top_k=3)] == [
                tag.name for tag in expected[:3]
            ]
        from huggingface_hub.errors import HfHubHTTPError

        with pytest.raises(HfHubHTTPError, match="415"):
            client.audio_classification(b"not audio")


class TestDocumentation:
    """The commands and programs of docs/serve.md, on a server at another port."""

    @staticmethod
    def find_blocks(language: str) -> list[str]:
        blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)
        assert blocks
        return [block for block in blocks if "127.0.0.1:8000" in block]

    @staticmethod
    def run(command: list[str], folder: Path) -> str:
        result = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == 0, f"{command[-1]}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    @pytest.fixture
    def address(self, server: RunningServer) -> str:
        return server.url.removeprefix("http://")

    @pytest.mark.skipif(shutil.which("curl") is None, reason="needs the program curl")
    def test_every_curl(self, address: str, recording: Path) -> None:
        commands = 0
        for block in self.find_blocks("bash"):
            for command in re.sub(r"\\\n", " ", block).splitlines():
                if "curl" not in command:
                    continue
                command = command.replace("127.0.0.1:8000", address).replace("curl ", "curl --silent --fail-with-body ")
                answer = json.loads(self.run(["bash", "-c", command], recording.parent))
                assert answer
                commands += 1
        assert commands >= 6

    @pytest.mark.parametrize("number", range(4))
    def test_every_python_program(self, address: str, recording: Path, number: int) -> None:
        programs = self.find_blocks("python")
        assert len(programs) == 4
        for module in ("requests", "websockets", "tritonclient.http", "huggingface_hub"):
            if f"import {module}" in programs[number] or f"from {module}" in programs[number]:
                pytest.importorskip(module, reason=f"needs {module} (extra `dev`)")
        program = programs[number].replace("127.0.0.1:8000", address)
        printed = self.run([sys.executable, "-c", program], recording.parent)
        if "websockets" in program:
            lines = [json.loads(line) for line in printed.splitlines()]
            assert lines[0]["type"] == "ready"
            assert lines[-1] == {"type": "end", "seconds": 10.0}
            assert "result" in {line["type"] for line in lines}
        elif "top" in program:
            tags = Tagger.load(BUNDLED_MODEL).tag(recording, top=3)
            assert [line.count(tag.name) for line, tag in zip(printed.splitlines(), tags, strict=True)] == [1, 1, 1]
        else:
            assert printed.startswith("[[")

    @pytest.mark.skipif(shutil.which("node") is None, reason="needs the program node")
    def test_every_javascript_program(self, address: str, recording: Path) -> None:
        (program,) = self.find_blocks("javascript")
        path = recording.with_name("client.mjs")
        path.write_text(program.replace("127.0.0.1:8000", address), encoding="utf-8")
        printed = self.run(["node", "--no-warnings", str(path)], recording.parent)
        tags = Tagger.load(BUNDLED_MODEL).tag(recording, top=3)
        assert printed.splitlines() == [f"{tag.probability:.3f} {tag.name}" for tag in tags]
