"""The part of a model that embeds one segment: cut out, exported, streamed with before an attention head."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from export.small_models import built, card_of, saved, trained, without_measuring

from kerastag.__main__ import main
from kerastag.card import Card
from kerastag.edge import LiteRTModel, StreamingTagger
from kerastag.export.embedder import embedder
from kerastag.export.export import export
from kerastag.export.source import Source, read_source, rebuilt
from kerastag.export.target import Target, read_target
from kerastag.models.fingerprint import fingerprint
from kerastag.models.vggish import vggish

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exporting needs TensorFlow")
_RNG = np.random.default_rng(5)
NOISE = (0.1 * _RNG.standard_normal(153_840)).astype(np.float32)


def tones() -> np.ndarray:
    """Ten tones of 0.96 s in faint noise, each of another pitch and loudness, and 0.015 s more."""
    hertz, level = 200 * 1.4 ** _RNG.permutation(11), 10 ** -_RNG.uniform(0.3, 3, 11)
    hertz, level = (np.repeat(each, 15_360)[: len(NOISE)] for each in (hertz, level))
    return (0.01 * NOISE + level * np.sin(2 * np.pi * np.cumsum(hertz) / 16_000)).astype(np.float32)


@pytest.fixture(autouse=True)
def no_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time and memory of an exported file are measured in other tests."""
    without_measuring(monkeypatch)


@pytest.fixture(scope="module")
def vggish_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(0)
    model = trained(vggish(width=1 / 64, input="waveform", postprocess="pca"))
    for weight in model.weights:
        if weight.path.endswith("kernel"):
            weight.assign(2 * weight)  # so that segments differ
    return saved(model, card_of("vggish", 10.0, 0.96, None), tmp_path_factory.mktemp("vggish") / "vggish.keras")


def test_a_tagger_becomes_an_embedder_of_segments(hearing: Path, tmp_path: Path) -> None:
    output = tmp_path / "embedder.tflite"
    command = ["export", str(hearing), "--target", "float32", "--segment_seconds", "0.5", "--output", str(output)]
    assert main(command) == 0
    model = LiteRTModel(output)
    assert (model.input, model.shape, model.outputs) == ("waveform", (1, 16_000), ("embedding",))
    assert (model.card.labels, model.card.window_seconds, model.card.sample_rate) == (None, 0.5, 32_000)
    assert model.card.front_end == Card.read(hearing).front_end
    assert model.card.origin == "made in a test; exported as float32"
    expected = keras.saving.load_model(hearing)(NOISE[None, :16_000])["embedding"]
    np.testing.assert_allclose(model(NOISE[None, :16_000])["embedding"], expected, rtol=0, atol=1e-5)


def test_what_cuts_its_own_segments_is_streamed_at_their_distance(vggish_file: Path, tmp_path: Path) -> None:
    """VGGish and a head of 0.96 s: every segment of the stream is one of the whole recording's."""
    files = {}
    head = built("feature_attention", units=8, depth=1)
    saved(head, card_of("vggish", 9.6, 0.96), tmp_path / "head.keras")
    for name, target in (("waveform", Target(name="x")), ("log_mel", Target(name="x", input="log_mel"))):
        files[name] = tmp_path / f"{name}.tflite"
        export(vggish_file, target, files[name], segment_seconds=0.96)
    export(tmp_path / "head.keras", Target(name="x"), tmp_path / "head.tflite")
    assert LiteRTModel(files["waveform"]).shape == (1, 15_600)
    assert LiteRTModel(files["log_mel"]).shape == (1, 96, 64)
    heard = tones()
    segments = keras.saving.load_model(vggish_file)(heard[None])["segments"]
    assert segments.shape == (1, 10, 128)
    for file in files.values():
        tagger = StreamingTagger(file, tmp_path / "head.tflite", eight_bit=False)
        assert tagger.hop_seconds == pytest.approx(0.96)
        fed = tagger.feed(heard, 16_000)
        assert len(fed) == 10
        for index, result in enumerate(fed):
            expected = head(segments[:, : index + 1])["clipwise"][0]
            np.testing.assert_allclose(result.probabilities, expected, rtol=0, atol=1e-4)
    assert np.ptp([result.probabilities for result in fed], axis=0).max() > 0.03, "nothing moved"


def test_the_fingerprint_is_of_the_weights_alone(hearing: Path) -> None:
    source = read_source(hearing)
    made = embedder(source, 0.5)
    again = embedder(Source(rebuilt(source.network, transform="two_step"), source.card, source.path), 0.25)
    assert made.card.versions["embedder"] == again.card.versions["embedder"] == fingerprint(made.network)
    kernel = next(weight for weight in source.network.weights if weight.path.endswith("kernel"))
    kernel.assign(kernel * (1 + 1e-6))
    assert embedder(source, 0.5).card.versions["embedder"] != made.card.versions["embedder"]


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (0.0, r"`segment_seconds` must be above 0, received 0.0"),
        (float("nan"), r"`segment_seconds` must be above 0, received nan"),
        (2.0, r"`segment_seconds` must be at most 1, the window of .*hearing.keras, received 2"),
    ],
)
def test_lengths_that_do_not_fit_are_one_line(hearing: Path, seconds: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embedder(read_source(hearing), seconds)


def test_models_that_do_not_fit_are_one_line(hearing: Path, heads: Path, vggish_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hear and give `embedding`, received embedding -> clipwise, framewise"):
        embedder(read_source(heads), 1.0)
    with pytest.raises(ValueError, match=r"`segment_seconds` of .*vggish.keras must be 0.96, its own, received 1"):
        embedder(read_source(vggish_file), 1.0)
    long = dataclasses.replace(read_target("float32"), window_seconds=5.0)
    with pytest.raises(ValueError, match=r"`segment_seconds` needs a target without `window_seconds`"):
        export(hearing, long, tmp_path / "x.tflite", segment_seconds=0.5)
    with pytest.raises(ValueError, match=r"`outputs` must name one of .*it has embedding, not clipwise"):
        export(hearing, read_target("mediapipe"), tmp_path / "x.tflite", segment_seconds=0.5)
    assert not list(tmp_path.iterdir())
