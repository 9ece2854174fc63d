"""Tests of the models of a server and of the threads that run them."""

import threading

import numpy as np
import pytest
from serving.servers import SAMPLE_RATE, create_waveform

from kerastag.edge.runtime import LiteRTModel
from kerastag.serving.config import ModelSpec, ServeConfig
from kerastag.serving.engine import ModelRegistry, SharedRuntime, load_model
from kerastag.serving.errors import RequestError
from kerastag.tagger import fetch_model

CLIPS = np.stack([create_waveform(10.0, seed=seed) for seed in range(6)])


class RecordedRuntime:
    """A `.tflite` model that remembers the sizes of its batches."""

    def __init__(self) -> None:
        self._model = LiteRTModel(fetch_model("esc10"), 1)
        self.input, self.length, self.outputs = self._model.input, self._model.length, self._model.outputs
        self.sizes: list[int] = []
        self.may_continue = threading.Event()

    def __call__(self, batch):
        self.sizes.append(len(batch))
        self.may_continue.wait(10)
        return self._model(batch)


def run_all(runtime, parts):
    """Run a model for several batches at once, and return the outputs by number."""
    results = {}

    def work(number, part):
        results[number] = runtime(part)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(parts)]
    for thread in threads:
        thread.start()
    return threads, results


def test_results_of_calls_at_once_are_those_of_each_alone():
    expected = LiteRTModel(fetch_model("esc10"), 1)(CLIPS)
    runtime = SharedRuntime(lambda: LiteRTModel(fetch_model("esc10"), 1), num_workers=2)
    parts = [CLIPS[:1], CLIPS[1:4], CLIPS[4:]] * 2
    threads, results = run_all(runtime, parts)
    for thread in threads:
        thread.join()
    rows = [slice(0, 1), slice(1, 4), slice(4, 6)] * 2
    for number, row in enumerate(rows):
        for name, values in expected.items():
            np.testing.assert_array_equal(results[number][name], values[row])
    assert runtime.num_clips == 12
    runtime.close()


def test_calls_that_wait_together_are_one_batch_where_the_model_takes_batches():
    recorded = RecordedRuntime()
    expected = recorded._model(CLIPS)
    runtime = SharedRuntime(lambda: recorded, num_workers=1, max_batch=4)
    threads, first_results = run_all(runtime, [CLIPS[:1]])
    while not recorded.sizes:
        pass
    more_threads, results = run_all(runtime, [CLIPS[1:2], CLIPS[2:4], CLIPS[4:6]])
    while runtime._queue.qsize() < 3:
        pass
    recorded.may_continue.set()
    for thread in threads + more_threads:
        thread.join()
    assert recorded.sizes[0] == 1
    assert sum(recorded.sizes) == 6
    assert max(recorded.sizes) in (3, 4)
    assert len(recorded.sizes) == 3
    np.testing.assert_array_equal(first_results[0]["clipwise"], expected["clipwise"][:1])
    for number, row in enumerate((slice(1, 2), slice(2, 4), slice(4, 6))):
        np.testing.assert_array_equal(results[number]["clipwise"], expected["clipwise"][row])
    runtime.close()


def test_an_error_reaches_its_caller_and_no_other():
    runtime = SharedRuntime(lambda: LiteRTModel(fetch_model("esc10"), 1), num_workers=1)
    with pytest.raises(ValueError, match="`waveform` must have shape"):
        runtime(np.zeros((1, 5), np.float32))
    assert runtime(CLIPS[:1])["clipwise"].shape == (1, 10)
    runtime.close()


def test_models_are_found_by_name_version_and_label():
    specs = [ModelSpec.parse(text) for text in ("a:2=esc10", "a:1,stable=esc10", "b=esc10")]
    registry = ModelRegistry(specs)
    with pytest.raises(RequestError, match="being loaded"):
        registry.get("a")
    registry.load(num_workers=1)
    assert [registry.get("a").version, registry.get("a", label="stable").version, registry.get().name] == [2, 1, "a"]
    assert [model.version for model in registry.get_versions("a")] == [2, 1]
    for arguments in ({"name": "c"}, {"name": "a", "version": 3}, {"name": "a", "label": "x"}):
        with pytest.raises(RequestError) as error:
            registry.get(**arguments)
        assert error.value.status == 404
    registry.close()


@pytest.mark.parametrize(
    ("text", "name", "version", "labels", "path"),
    [
        ("mn04_as", "mn04_as", None, (), "mn04_as"),
        ("models/birds.tflite", "birds", None, (), "models/birds.tflite"),
        ("a=b=c.tflite", "a", None, (), "b=c.tflite"),
        ("a:12=x:1=y", "a", 12, (), "x:1=y"),
        ("a:3,x,y=p.keras", "a", 3, ("x", "y"), "p.keras"),
        ("models/my birds/", "my_birds", None, (), "models/my birds/"),
    ],
)
def test_the_text_of_a_model_has_name_version_labels_and_path(text, name, version, labels, path):
    spec = ModelSpec.parse(text)
    assert (spec.name, spec.version, spec.labels, spec.path) == (name, version, labels, path)


def test_limits_out_of_range_are_errors():
    models = (ModelSpec.parse("esc10"),)
    with pytest.raises(ValueError, match="`models` must have at least one model; received: none"):
        ServeConfig(())
    for name, value in (("port", -1), ("max_body_mb", float("nan")), ("max_streams", 1_001), ("workers", 0)):
        with pytest.raises(ValueError, match=rf"`{name}` must be in \["):
            ServeConfig(models, **{name: value})
    with pytest.raises(ValueError, match="`allowed_origins` must be like https://example.com"):
        ServeConfig(models, allowed_origins=("example.com",))


@pytest.mark.slow
def test_a_keras_model_and_its_saved_model_predict_the_same(tmp_path):
    from tagger.small_models import save_small_model

    from kerastag.export import export_model, read_target
    from kerastag.labels import LabelSet

    path = save_small_model(tmp_path / "small.keras", LabelSet.from_names(["a", "b"]))
    export_model(path, read_target("saved_model"), tmp_path / "small")
    waveform = create_waveform(7.3)
    results = []
    for text in (f"small={path}", f"small={tmp_path / 'small'}"):
        model = load_model(ModelSpec.parse(text), 2)
        assert model.version == 1
        assert not model.can_stream
        results.append(model.tagger.predict_timeline(waveform, sample_rate=SAMPLE_RATE))
        model.runtime.close()
    np.testing.assert_allclose(results[0].probabilities, results[1].probabilities, atol=1e-5)
    np.testing.assert_allclose(results[0].clipwise, results[1].clipwise, atol=1e-5)
