"""Seeded faults of the chain from a recording to a decision, and a small run to try them on.

Each fault is a small patch of the deployed side (the source, the stream, the exported files) or of the training side
(the reader of clips, the front end, the networks), as a change of the code or a mistaken copy would be.
"""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from custom.small_runs import run_custom

from kerastag import audio
from kerastag.card import Card, write_card
from kerastag.custom import chain as chain_module
from kerastag.custom import chain_reference, chain_stream
from kerastag.custom.chain import ChainReport, check_chain
from kerastag.custom.clips import Clips
from kerastag.custom.embeddings import Embeddings
from kerastag.custom.exported import ExportedTagger, export_parts
from kerastag.data.audio_lists import Recording
from kerastag.edge.blocks import Block
from kerastag.edge.head import SplitHead
from kerastag.edge.modes import IncrementalMode, Prediction, StreamingMode, WindowedMode
from kerastag.edge.pair import EmbedderAndHead
from kerastag.edge.runtime import LiteRTModel
from kerastag.edge.sources.source import RecordingSource
from kerastag.events import EventRules
from kerastag.labels import LabelSet
from kerastag.layers.log_mel import LogMel
from kerastag.training.run_folder import RunFolder

Patch = pytest.MonkeyPatch


_load_training = functools.cache(chain_reference.TrainingChain)


@dataclass(frozen=True)
class Chain:
    """The arguments of `check_chain`, and a folder for changed copies of files."""

    folder: RunFolder
    exported: ExportedTagger
    clips: Clips
    temporary: Path
    embeddings: Embeddings | None = None
    loads_networks: bool = False

    def copy_to(self, folder: Path) -> Chain:
        """Return the same chain with another folder for changed copies."""
        return replace(self, temporary=folder)

    def change_embeddings(self, change: Callable[[np.ndarray], np.ndarray]) -> Chain:
        """Return the chain with changed embeddings in the cache."""
        training = _load_training(self.folder)
        bags = [change(training.compute(clip).embeddings) for clip in self.clips.audio]
        ones = np.ones(len(bags), int)
        means = np.stack([bag.mean(axis=0) for bag in bags])
        kind = "frames" if training.is_window else "seconds"
        return replace(self, embeddings=Embeddings({kind: bags}, means, ones, ones > 0, ()))

    def check(self) -> ChainReport:
        """Check the chain; the networks of training are loaded once for all faults but those of the files."""
        with pytest.MonkeyPatch.context() as patch:
            if not self.loads_networks:
                patch.setattr(chain_module, "TrainingChain", _load_training)
            return self._check()

    def _check(self) -> ChainReport:
        return check_chain(self.folder, self.exported, self.clips, embeddings=self.embeddings)


@dataclass(frozen=True)
class Fault:
    """A fault: what is wrong, the stages of which the check may name one, and a function that makes it."""

    name: str
    stages: tuple[str, ...]
    make: Callable[[Patch, Chain], Chain | None]


def write_clips(folder: Path, lengths: tuple[float, float, float]) -> Clips:
    """Write three clips, each second of which has another sound, in three rates, one of them in stereo."""
    random, recordings = np.random.default_rng(0), []
    folder.mkdir()
    for number, (rate, seconds, channels) in enumerate(zip((44_100, 48_000, 32_000), lengths, (2, 1, 1), strict=True)):
        parts = []
        for second in range(4):
            time = np.arange(rate) / rate
            tone = np.sin(2 * np.pi * 300 * 2 ** (second + number / 3) * time)
            noise = random.standard_normal((rate, channels))
            parts.append(0.02 * (1 + second) * (tone[:, None] * [0.2, 1.0][:channels] + (second % 2) * noise))
        path = folder / f"{number}.flac"
        soundfile.write(path, np.concatenate(parts)[: round(seconds * rate)], rate)
        recordings.append(Recording(path, path.name, (number,)))
    names = ("bursts", "clicks", "hums", "background")
    targets = np.eye(4, dtype=bool)[:3]
    return Clips(str(folder), (), names, tuple(recordings), targets, np.arange(3), np.ones_like(targets))


def make_chain(folder: Path, recordings: Path, backbone: Path, kind: str) -> Chain:
    """Train a small tagger, give it rules for events, and export it; one clip is not a whole number of segments."""
    flags = ("--segments", kind, "--folds", "0", "--seeds", "[4]")
    with contextlib.redirect_stdout(io.StringIO()):
        assert run_custom(recordings, backbone, folder / "run", *flags) == 0
    lengths = (3.0, 1.3, 3.7) if kind == "frames" else (3.0, 2.7, 3.7)  # Windows of frames have 1.92 s.
    run, clips = RunFolder.open(folder / "run"), write_clips(folder / "clips", lengths)
    rules = {"thresholds": (0.3, 0.4, 0.5, 0.6), "event_rules": {"smoothing_seconds": 3.0}}
    for path in (run.model_path, run.head_path):
        write_card(path, replace(Card.read(path), **rules))
    return Chain(run, export_parts(run, clips.audio), clips, folder)


@pytest.fixture(scope="session")
def chain(recordings, backbone, cache_folder, tmp_path_factory):
    """Run of a small tagger of output frames, exported in 8 bits, and clips to check it with."""
    pytest.importorskip("ai_edge_quantizer")
    return make_chain(tmp_path_factory.mktemp("chain"), recordings, backbone, "frames")


@pytest.fixture(scope="session")
def chain_of_seconds(recordings, backbone, cache_folder, tmp_path_factory):
    """Return the same for a tagger of seconds."""
    pytest.importorskip("ai_edge_quantizer")
    return make_chain(tmp_path_factory.mktemp("chain_of_seconds"), recordings, backbone, "seconds")


def list_faults() -> list[Fault]:
    """List all faults, in the order of the stages of the chain."""
    return [
        Fault("the second half of a recording is not decoded", ("decoder",), _wave(lambda x, r: x[: len(x) // 2])),
        Fault("the first 5 ms of a recording are skipped", ("decoder",), _wave(lambda x, r: x[r // 200 :])),
        Fault("a block of samples is decoded as zeros", ("decoder",), _wave(_erase_block)),
        Fault("recordings are read at half the rate", ("resampler",), _wave(lambda x, r: soxr.resample(x, r, r // 2))),
        Fault("44.1 kHz are taken as 32 kHz", ("resampler",), _wave(lambda x, r: soxr.resample(x, 32_000, 44_100))),
        Fault("the resampler has no filter", ("resampler",), _resample_without_filter),
        Fault("the left channel is used for the mean", ("channel",), lambda patch, chain: _choose(patch, "left")),
        Fault("the loudest channel is used for the mean", ("channel",), lambda patch, chain: _choose(patch, "loudest")),
        Fault("training used the right channel", ("channel",), _train_on_right_channel),
        Fault("samples are integers", ("level",), _wave(lambda x, r: 32_768 * x)),
        Fault("samples are divided by 32,768 twice", ("level",), _wave(lambda x, r: x / 32_768)),
        Fault("a gain is applied twice", ("level",), _wave(lambda x, r: 2 * x)),
        Fault("samples have an offset", ("level",), _wave(lambda x, r: x + np.float32(0.05))),
        Fault("training normalized each clip", ("level",), _normalize_in_training),
        Fault("the bands of the log-mel spectrogram are reversed", ("front end",), _flip_bands),
        Fault("the logarithm is natural", ("front end",), _front_end(log="natural", shift=0.0)),
        Fault("windows are half as long", ("front end",), _front_end(window_length=512, padding=256)),
        Fault("the spectrum is of magnitudes", ("front end",), _front_end(spectrum="magnitude")),
        Fault("mel bands have another scale", ("front end",), _front_end(mel_scale="htk", mel_triangles="mel")),
        Fault("frames have no window function", ("front end",), _front_end(window=np.ones(1_024, np.float32))),
        Fault("the card has the front end of another rate", ("front end", "embedder"), _change_front_end_in_card),
        Fault("windows begin one sample late", ("segment position",), _shift_segments),
        Fault("windows begin half a second late", ("segment position",), _window(first_row=16_000)),
        Fault("output frames are one too late", ("segment position",), _window(first_frame=1)),
        Fault("a window is padded at its start", ("segment position",), _pad_at_start),
        Fault("the remainder of a clip is dropped", ("segment position",), _drop_remainder),
        Fault("the frames of training are in reverse", ("segment position",), lambda patch, chain: _reverse(chain)),
        Fault("the embedder is that of another run", ("embedder",), _exchange_embedder),
        Fault("features are in another order", ("embedder",), _embedding(lambda x: np.roll(x, 1, axis=-1))),
        Fault("the scale of a quantized tensor is wrong", ("embedder",), _embedding(lambda x: 2 * x)),
        Fault("embeddings overflow in float16", ("embedder",), _embedding(_overflow)),
        Fault("the cache has embeddings of another backbone", ("embedder",), lambda patch, chain: _exchange(chain)),
        Fault("embeddings are scaled as those of AudioSet", ("head",), _head_input(lambda x: (x - 128) / 128)),
        Fault("the head takes the frames in reverse", ("head",), _head_input(lambda x: x[:, ::-1])),
        Fault("the head takes the newest frame alone", ("head",), _head_input(lambda x: x * (x == x[:, -1:]))),
        Fault("the head is older than that of training", ("head",), _retrain_head),
        Fault("the outputs of the head are permuted", ("labels", "head"), _permute_outputs_of_windows),
        Fault("the labels are permuted", ("labels",), _card(_reverse_labels)),
        Fault("the thresholds are permuted", ("threshold",), _card(_permute_thresholds)),
        Fault("a threshold is that of another run", ("threshold",), _card(_change_threshold)),
        Fault("smoothing is off", ("threshold",), _card(_remove_rules)),
        Fault("the stream ignores the rules of the card", ("threshold",), _ignore_rules),
    ]


def list_faults_of_seconds() -> list[Fault]:
    """List the faults that only a tagger of seconds can have."""
    return [
        Fault("segments begin one sample late", ("segment position",), _shift_segments),
        Fault("the hop is one sample too long", ("segment position",), _lengthen_hop),
        Fault("segments overlap by half", ("segment position",), _mode(hop_seconds=0.5)),
        Fault("the last segment is padded at its start", ("segment position",), _pad_at_start),
        Fault("the remainder of a clip is dropped", ("segment position",), _drop_remainder),
        Fault("the segments of training are in reverse", ("segment position",), lambda patch, chain: _reverse(chain)),
        Fault("embeddings are scaled as those of AudioSet", ("head",), _mode(eight_bit=True)),
        Fault("the head does not mask padding", ("head",), _remove_mask),
        Fault("the head takes the newest segment alone", ("head",), _reset_bag),
        Fault("the outputs of the head are permuted", ("labels", "head"), _permute_outputs),
    ]


def _wave(change: Callable[[np.ndarray, int], np.ndarray]) -> Callable[[Patch, Chain], None]:
    """Change the waveform that the source of a stream decodes, given the rate of the model."""

    def make(patch: Patch, chain: Chain) -> None:
        original = RecordingSource.__iter__

        def iterate(self: RecordingSource) -> Iterable[Block]:
            blocks = list(original(self))
            rate = blocks[0].sample_rate
            yield from _cut(change(np.concatenate([block.samples for block in blocks]), rate), rate)

        patch.setattr(RecordingSource, "__iter__", iterate)

    return make


def _cut(waveform: np.ndarray, rate: int) -> Iterable[Block]:
    for start in range(0, len(waveform), rate // 10):
        yield Block(np.asarray(waveform[start : start + rate // 10], np.float32), rate)


def _erase_block(waveform: np.ndarray, rate: int) -> np.ndarray:
    erased = waveform.copy()
    erased[rate // 2 : rate] = 0
    return erased


def _resample_without_filter(patch: Patch, chain: Chain) -> None:
    def iterate(self: RecordingSource) -> Iterable[Block]:
        samples, rate = soundfile.read(self.name, dtype="float32", always_2d=True)
        count = int(len(samples) * self._rate / rate)
        nearest = (np.arange(count) * rate / self._rate).astype(int)
        yield from _cut(samples.mean(axis=1)[nearest], self._rate)

    patch.setattr(RecordingSource, "__iter__", iterate)


def _choose(patch: Patch, channel: str) -> None:
    original = audio.read_blocks

    def read_blocks(path: str, *arguments: object, **options: object) -> Iterable[np.ndarray]:
        return original(path, *arguments, **{**options, "channel": channel})

    def iterate(self: RecordingSource) -> Iterable[Block]:
        for samples in read_blocks(self.name, self._rate, 0.1):
            yield Block(samples, self._rate)

    patch.setattr(RecordingSource, "__iter__", iterate)


def _train_on_right_channel(patch: Patch, chain: Chain) -> None:
    original = chain_reference.read_windows
    patch.setattr(
        chain_reference, "read_windows", lambda clip, rate, seconds, channel: original(clip, rate, seconds, 2)
    )


def _normalize_in_training(patch: Patch, chain: Chain) -> None:
    original = chain_reference.read_windows

    def read_windows(*arguments: object) -> Iterable[np.ndarray]:
        return (window / np.abs(window).max() for window in original(*arguments))

    patch.setattr(chain_reference, "read_windows", read_windows)


def _front_end(**fields: object) -> Callable[[Patch, Chain], None]:
    """Change fields of the front end of training, or its window function."""

    def make(patch: Patch, chain: Chain) -> None:
        original, window = LogMel.call, fields.get("window")
        constants = {name: value for name, value in fields.items() if name != "window"}

        def call(self: LogMel, waveform: object) -> object:
            front_end = self.front_end
            self.front_end = replace(front_end, **constants)
            if window is not None:
                self.front_end.__dict__["window"] = window
            result = original(self, waveform)
            self.front_end = front_end
            return result

        patch.setattr(LogMel, "call", call)

    return make


def _flip_bands(patch: Patch, chain: Chain) -> None:
    original = LogMel.call
    patch.setattr(LogMel, "call", lambda self, waveform: original(self, waveform)[..., ::-1])


def _change_front_end_in_card(patch: Patch, chain: Chain) -> Chain:
    def change(card: Card) -> Card:
        return replace(card, front_end={**card.front_end, "max_hz": 8_000.0})

    path = _copy(chain, chain.exported.embedder, change)
    return replace(chain, exported=chain.exported._replace(embedder=path))


def _shift_segments(patch: Patch, chain: Chain) -> None:
    original = StreamingMode._fill_input

    def fill_input(self: StreamingMode, array: np.ndarray, start: int) -> None:
        original(self, array, start)
        array[0] = np.append(array[0, 1:], np.float32(0))

    patch.setattr(StreamingMode, "_fill_input", fill_input)


def _pad_at_start(patch: Patch, chain: Chain) -> None:
    original = StreamingMode._fill_input

    def fill_input(self: StreamingMode, array: np.ndarray, start: int) -> None:
        original(self, array, start)
        array[0] = np.roll(array[0], array.shape[1] - (self.position - start))

    patch.setattr(StreamingMode, "_fill_input", fill_input)


def _lengthen_hop(patch: Patch, chain: Chain) -> None:
    original = IncrementalMode.__init__

    def initialize(self: IncrementalMode, *arguments: object) -> None:
        original(self, *arguments)
        self.hop_rows += 1

    patch.setattr(IncrementalMode, "__init__", initialize)


def _window(first_row: int = 0, first_frame: int = 0) -> Callable[[Patch, Chain], None]:
    """Move the start of windows, or the frames that are new in them."""

    def make(patch: Patch, chain: Chain) -> None:
        original = WindowedMode._predict_window

        def predict_window(self: WindowedMode, start: int, first: int, last: int) -> Prediction:
            return original(self, max(0, start) + first_row, first + first_frame * self._frame, last)

        patch.setattr(WindowedMode, "_predict_window", predict_window)

    return make


def _head_input(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Patch, Chain], None]:
    """Change what the head takes from the embedder of windows."""

    def make(patch: Patch, chain: Chain) -> None:
        def call(self: EmbedderAndHead, window: np.ndarray) -> dict[str, np.ndarray]:
            return self._head(change(self._embedder(window)["embedding"]).astype(np.float32))

        patch.setattr(EmbedderAndHead, "__call__", call)

    return make


def _permute_outputs_of_windows(patch: Patch, chain: Chain) -> None:
    original = EmbedderAndHead.__call__

    def call(self: EmbedderAndHead, window: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.roll(values, 1, axis=-1) for name, values in original(self, window).items()}

    patch.setattr(EmbedderAndHead, "__call__", call)


def _mode(**options: object) -> Callable[[Patch, Chain], None]:
    """Start the stream with other options."""

    def make(patch: Patch, chain: Chain) -> None:
        original = chain_stream.StreamingTagger
        patch.setattr(chain_stream, "StreamingTagger", lambda model, head: original(model, head, **options))

    return make


def _drop_remainder(patch: Patch, chain: Chain) -> None:
    for mode in (IncrementalMode, WindowedMode):
        patch.setattr(mode, "_has_remainder", lambda self: False)


def _reverse(chain: Chain) -> Chain:
    return chain.change_embeddings(lambda bag: bag[::-1])


def _exchange(chain: Chain) -> Chain:
    random = np.random.default_rng(0)
    return chain.change_embeddings(lambda bag: random.permuted(bag, axis=1))


def _exchange_embedder(patch: Patch, chain: Chain) -> Chain:
    def change(card: Card) -> Card:
        return replace(card, versions={**card.versions, "embedder": "0123456789abcdef"})

    path = _copy(chain, chain.exported.embedder, change)
    return replace(chain, exported=chain.exported._replace(embedder=path))


def _embedding(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Patch, Chain], None]:
    """Change what the exported embedder returns."""

    def make(patch: Patch, chain: Chain) -> None:
        original = LiteRTModel.__call__

        def call(self: LiteRTModel, batch: np.ndarray) -> dict[str, np.ndarray]:
            outputs = original(self, batch)
            return {name: change(value) if name == "embedding" else value for name, value in outputs.items()}

        patch.setattr(LiteRTModel, "__call__", call)

    return make


def _overflow(embedding: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return (1e6 * embedding).astype(np.float16).astype(np.float32)


def _remove_mask(patch: Patch, chain: Chain) -> None:
    original = SplitHead.predict

    def predict(self: SplitHead, bag: np.ndarray, newest: int) -> tuple[np.ndarray, np.ndarray]:
        return original(self, np.where(bag == 0, np.float32(1e-6), bag), newest)

    patch.setattr(SplitHead, "predict", predict)


def _reset_bag(patch: Patch, chain: Chain) -> None:
    original = IncrementalMode._add_to_bag

    def add_to_bag(self: IncrementalMode, values: np.ndarray, start: int) -> None:
        self._count = 0
        original(self, values, start)

    patch.setattr(IncrementalMode, "_add_to_bag", add_to_bag)


def _retrain_head(patch: Patch, chain: Chain) -> Chain:
    original = chain_reference.load_model

    def load_model(path: Path) -> object:
        model = original(path)
        if path == chain.folder.head_path:
            model.set_weights([-weight for weight in model.get_weights()])
        return model

    patch.setattr(chain_reference, "load_model", load_model)
    return replace(chain, loads_networks=True)


def _permute_outputs(patch: Patch, chain: Chain) -> None:
    original = SplitHead.predict

    def predict(self: SplitHead, bag: np.ndarray, newest: int) -> tuple[np.ndarray, ...]:
        return tuple(np.roll(probabilities, 1) for probabilities in original(self, bag, newest))

    patch.setattr(SplitHead, "predict", predict)


def _card(change: Callable[[Card], Card]) -> Callable[[Patch, Chain], Chain]:
    """Change the card of the exported head."""

    def make(patch: Patch, chain: Chain) -> Chain:
        assert chain.exported.head is not None
        return replace(chain, exported=chain.exported._replace(head=_copy(chain, chain.exported.head, change)))

    return make


def _copy(chain: Chain, path: Path, change: Callable[[Card], Card]) -> Path:
    copy = Path(shutil.copy(path, chain.temporary / path.name))
    write_card(copy, change(Card.read(path)))
    return copy


def _reverse_labels(card: Card) -> Card:
    assert card.labels is not None
    return replace(card, labels=LabelSet.from_names(card.labels.names[::-1]))


def _permute_thresholds(card: Card) -> Card:
    return replace(card, thresholds=tuple(np.roll(card.thresholds or (), 1)))


def _remove_rules(card: Card) -> Card:
    return replace(card, event_rules={})


def _change_threshold(card: Card) -> Card:
    first, *others = card.thresholds or ()
    return replace(card, thresholds=(first / 2, *others))


def _ignore_rules(patch: Patch, chain: Chain) -> None:
    patch.setattr(
        chain_stream, "create_rules", lambda config, tagger, classes: EventRules(tagger.card.thresholds or ())
    )
