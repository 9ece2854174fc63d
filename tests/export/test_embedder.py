"""The part of a model that embeds one segment: extracted, exported, and streamed before an attention head."""

import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from export.small_models import build_model, make_card, randomize, save_model, skip_usage

from kerastag.__main__ import main
from kerastag.card import Card, write_card
from kerastag.edge import LiteRTModel, StreamingTagger
from kerastag.export import Target, export_model, read_target
from kerastag.export.preparation import prepare_model
from kerastag.export.source import SourceModel, extract_embedder, read_source, rebuild_network
from kerastag.export.tflite import convert_model
from kerastag.models import MODELS
from kerastag.models.weights import compute_fingerprint

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")
_RNG = np.random.default_rng(5)
NOISE = (0.1 * _RNG.standard_normal(153_840)).astype(np.float32)


def make_tones() -> np.ndarray:
    """Make ten tones of 0.96 s in faint noise, each of another frequency and level, and 0.015 s more."""
    frequencies, levels = 200 * 1.4 ** _RNG.permutation(11), 10 ** -_RNG.uniform(0.3, 3, 11)
    frequencies, levels = (np.repeat(each, 15_360)[: len(NOISE)] for each in (frequencies, levels))
    return (0.01 * NOISE + levels * np.sin(2 * np.pi * np.cumsum(frequencies) / 16_000)).astype(np.float32)


@pytest.fixture(autouse=True)
def _no_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_usage(monkeypatch)


@pytest.fixture(scope="module")
def vggish_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(0)
    model = randomize(MODELS["vggish"].build(width=1 / 64, input="waveform", postprocess="pca"))
    for weight in model.weights:
        if weight.path.endswith("kernel"):
            weight.assign(2 * weight)  # so that the embeddings of segments differ
    return save_model(model, make_card("vggish", 10.0, 0.96, None), tmp_path_factory.mktemp("vggish") / "vggish.keras")


def test_the_embedder_of_a_tagger_takes_one_segment(tagger_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "embedder.tflite"
    command = ["export", str(tagger_file), "--target", "float32", "--segment_seconds", "0.5", "--output", str(output)]
    assert main(command) == 0
    model = LiteRTModel(output)
    assert (model.input, model.shape, model.outputs) == ("waveform", (1, 16_000), ("embedding",))
    assert (model.card.labels, model.card.window_seconds, model.card.sample_rate) == (None, 0.5, 32_000)
    assert model.card.front_end == Card.read(tagger_file).front_end
    assert model.card.origin == "a test; exported as float32"
    expected = keras.saving.load_model(tagger_file)(NOISE[None, :16_000])["embedding"]
    np.testing.assert_allclose(model(NOISE[None, :16_000])["embedding"], expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    """Build an attention head, and convert it to a file without a card."""
    model = build_model("feature_attention", units=8, depth=1)
    prepared = prepare_model(SourceModel(model, make_card("vggish", 9.6, 0.96), Path("head.keras")), Target(name="x"))
    path = tmp_path_factory.mktemp("head") / "head.tflite"
    path.write_bytes(convert_model(prepared))
    return model, path


@pytest.mark.parametrize(
    ("input_name", "seconds", "shape"), [("waveform", 0.96, (1, 15_600)), ("log_mel", 1.0, (1, 100, 64))]
)
def test_a_streamed_vggish_embeds_one_patch_per_segment(
    input_name: str,
    seconds: float,
    shape: tuple[int, ...],
    vggish_file: Path,
    head: tuple[keras.Model, Path],
    tmp_path: Path,
) -> None:
    embedder, head_file = tmp_path / "embedder.tflite", tmp_path / "head.tflite"
    export_model(vggish_file, Target(name="x", input=input_name), embedder, segment_seconds=seconds)
    assert LiteRTModel(embedder).shape == shape
    shutil.copy(head[1], head_file)
    write_card(head_file, make_card("vggish", 10 * seconds, seconds))
    waveform, vggish = make_tones(), keras.saving.load_model(vggish_file)
    starts = range(0, len(waveform) - 15_599, round(16_000 * seconds))
    patches = np.stack([waveform[start : start + 15_600] for start in starts])
    segments = np.asarray(vggish(patches)["segments"]).reshape(1, -1, 128)
    if seconds == 0.96:  # the segments of the whole recording
        np.testing.assert_allclose(vggish(waveform[None])["segments"], segments, rtol=0, atol=1e-5)
    tagger = StreamingTagger(embedder, head_file, eight_bit=False)
    assert tagger.hop_seconds == pytest.approx(seconds)
    results = tagger.feed(waveform, 16_000)
    assert len(results) == segments.shape[1] == len(waveform) // round(16_000 * seconds)
    for index, result in enumerate(results):
        expected = head[0](segments[:, : index + 1])["clipwise"][0]
        np.testing.assert_allclose(result.probabilities, expected, rtol=0, atol=1e-4)
    assert np.ptp([result.probabilities for result in results], axis=0).max() > 0.03, "the results must differ"


def test_vggish_embeds_the_first_patch_of_a_segment_of_one_second(vggish_file: Path) -> None:
    embedder, waveform = extract_embedder(read_source(vggish_file), 1.0), make_tones()[:16_240]
    assert embedder.card.window_seconds == len(waveform) / 16_000  # 100 log-mel frames
    first_patch = keras.saving.load_model(vggish_file)(waveform[None, :15_600])["segments"][:, 0]
    np.testing.assert_allclose(embedder.network(waveform[None])["embedding"], first_patch, rtol=0, atol=1e-5)


def test_the_fingerprint_depends_on_the_weights_alone(tagger_file: Path) -> None:
    source = read_source(tagger_file)
    first = extract_embedder(source, 0.5)
    rebuilt = SourceModel(rebuild_network(source.network, transform="two_step"), source.card, source.path)
    second = extract_embedder(rebuilt, 0.25)
    assert first.card.versions["embedder"] == second.card.versions["embedder"] == compute_fingerprint(first.network)
    kernel = next(weight for weight in source.network.weights if weight.path.endswith("kernel"))
    kernel.assign(kernel * (1 + 1e-6))
    assert extract_embedder(source, 0.5).card.versions["embedder"] != first.card.versions["embedder"]


def test_wrong_segment_lengths_are_refused(tagger_file: Path, vggish_file: Path) -> None:
    tagger, vggish = read_source(tagger_file), read_source(vggish_file)
    allowed = r"at least 0.96, the segment of .*vggish.keras, and less than twice as long"
    for source, seconds, message in (
        (tagger, 0.0, r"above 0; received: 0.0"),
        (tagger, float("nan"), r"above 0; received: nan"),
        (tagger, 2.0, r"at most 1, the window of .*tagger.keras; received: 2"),
        (vggish, 0.5, rf"{allowed}; received: 0.5"),
        (vggish, 1.92, rf"{allowed}; received: 1.92"),
    ):
        with pytest.raises(ValueError, match=f"`segment_seconds` must be {message}"):
            extract_embedder(source, seconds)


def test_models_without_a_suitable_embedder_are_refused(tagger_file: Path, head_file: Path, tmp_path: Path) -> None:
    message = r"must map waveform or log_mel to embedding; received: embedding to clipwise, framewise"
    with pytest.raises(ValueError, match=message):
        extract_embedder(read_source(head_file), 1.0)
    long_target = dataclasses.replace(read_target("float32"), window_seconds=5.0)
    with pytest.raises(ValueError, match=r"`segment_seconds` needs a target without `window_seconds`"):
        export_model(tagger_file, long_target, tmp_path / "x.tflite", segment_seconds=0.5)
    with pytest.raises(ValueError, match=r"`outputs` of the target must be among embedding for .*; received: clipwise"):
        export_model(tagger_file, read_target("mediapipe"), tmp_path / "x.tflite", segment_seconds=0.5)
    assert not list(tmp_path.iterdir())
