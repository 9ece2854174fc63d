"""The models of a server, by name and version, and the threads that run them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.card import Card
from kerastag.edge.runtime import AUDIO_INPUTS, LiteRTModel, Runtime, is_tflite
from kerastag.serving.config import ModelSpec
from kerastag.serving.errors import RequestError
from kerastag.tagger import Tagger
from kerastag.tagger.engines import prepare_model
from kerastag.tagger.tagger import load_runtime

__all__ = ["ModelRegistry", "ServedModel", "SharedRuntime", "load_model"]

_MAX_BATCH = 16  # clips of several requests that a framework processes at once


class SharedRuntime:
    """A model that many threads use at once: each of its interpreters has a thread, and all share one queue.

    Calls that wait together are processed together where the model takes batches. LiteRT loses by that: a clip of 10 s
    takes mn04 17.5 ms of a core alone, 19.9 ms in a pair, 20.6 ms among four and 21.9 ms among eight. So its
    interpreters process one clip after the other, which also gives every call the same bits as alone.

    The attributes are those of `kerastag.edge.runtime.LiteRTModel`, which `StreamingTagger` takes.

    Args:
        create: Function that creates an interpreter. The first is created at once, others when calls wait.
        num_workers: Largest number of interpreters.
        max_batch: Largest number of clips of several calls to process together; 1 keeps calls apart.
    """

    def __init__(self, create: Callable[[], Runtime], num_workers: int, max_batch: int = 1) -> None:
        self._create, self._num_workers, self._max_batch = create, num_workers, max_batch
        self._model = create()
        self.input, self.length, self.outputs = self._model.input, self._model.length, self._model.outputs
        self._queue: queue.SimpleQueue[tuple[np.ndarray, Future[Mapping[str, np.ndarray]]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._num_busy = 0
        self.num_clips = 0
        """Number of clips that have been processed."""
        self._start_thread(self._model)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        """Process clips of shape (batch, ...), and return the outputs by name, one row per clip."""
        future: Future[Mapping[str, np.ndarray]] = Future()
        with self._lock:
            self._num_busy += 1
            must_grow = len(self._threads) < min(self._num_busy, self._num_workers)
            if must_grow:
                self._start_thread(None)
        self._queue.put((batch, future))
        try:
            return future.result()
        finally:
            with self._lock:
                self._num_busy -= 1

    def close(self) -> None:
        """End the threads after the calls that wait."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _start_thread(self, runtime: Runtime | None) -> None:
        thread = threading.Thread(target=self._work, args=(runtime,), name="model", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self, runtime: Runtime | None) -> None:
        runtime = runtime or self._create()
        pending = None
        while (job := pending or self._queue.get()) is not None:
            jobs, pending = self._collect(job)
            try:
                batch = jobs[0][0] if len(jobs) == 1 else np.concatenate([batch for batch, _ in jobs])
                outputs = runtime(batch)
            except BaseException as error:
                for _, future in jobs:
                    future.set_exception(error)
                continue
            self.num_clips += len(batch)
            first = 0
            for part, future in jobs:
                rows = slice(first, first := first + len(part))
                future.set_result({name: np.asarray(values)[rows] for name, values in outputs.items()})

    def _collect(self, job: Any) -> tuple[list[Any], Any]:
        """Return a job with those of the same shape that wait right behind it, and the first one after them."""
        jobs, count = [job], len(job[0])
        while count < self._max_batch:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._queue.put(None)
                break
            if following[0].shape[1:] != job[0].shape[1:] or count + len(following[0]) > self._max_batch:
                return jobs, following
            jobs.append(following)
            count += len(following[0])
        return jobs, None


class ServedModel:
    """A version of a model.

    Attributes:
        name: Name of the model.
        version: Number of the version.
        labels: Other names of the version.
        runtime: Model, which takes batches of inputs.
        tagger: Tagger of recordings.
        can_stream: Whether the model can tag streams.
    """

    def __init__(self, spec: ModelSpec, version: int, runtime: SharedRuntime, card: Card, can_stream: bool) -> None:
        self.name, self.version, self.labels = spec.name, version, spec.labels
        self.runtime, self.card = runtime, card
        self.tagger = Tagger(runtime, card, spec.name)
        self.can_stream = can_stream and card.labels is not None and "clipwise" in runtime.outputs

    @property
    def window_seconds(self) -> float:
        """Length of the clips that the model processes, seconds."""
        if self.runtime.input == "waveform" and self.runtime.length is not None:
            return self.runtime.length / self.card.sample_rate
        return self.card.window_seconds

    def describe(self) -> dict[str, Any]:
        """Describe the model as JSON values."""
        labels = self.card.labels
        pairs = [] if labels is None else zip(labels.names, labels.mids, strict=True)
        return {
            "name": self.name,
            "version": str(self.version),
            "labels": [{"name": name, "mid": mid} for name, mid in pairs],
            "thresholds": list(self.card.thresholds or ()),
            "sample_rate": self.card.sample_rate,
            "window_seconds": self.window_seconds,
            "seconds_per_frame": self.card.seconds_per_frame if "framewise" in self.runtime.outputs else None,
            "streaming": self.can_stream,
            "origin": self.card.origin,
        }


def load_model(spec: ModelSpec, num_workers: int, engine: str = "auto") -> ServedModel:
    """Load a model.

    Args:
        spec: Model.
        num_workers: Largest number of interpreters of a `.tflite` file. Other models have one, which uses all cores.
        engine: What runs a named model, as in `Tagger.load`.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The file is not a model that can be served.
        ImportError: The package that runs the model is not installed.
    """
    if Path(spec.path).is_dir():
        from kerastag.serving.saved_models import SavedModelRuntime, find_version

        path, version = find_version(Path(spec.path))
        card = Card.read(path)
        runtime = SharedRuntime(lambda: SavedModelRuntime(path), 1, _MAX_BATCH)
        return ServedModel(spec, spec.version or version, runtime, card, can_stream=False)
    path = prepare_model(spec.path, engine)
    card, is_lite = Card.read(path), is_tflite(path)
    if is_lite:
        runtime = SharedRuntime(lambda: LiteRTModel(path, 1, AUDIO_INPUTS), num_workers)
    else:
        runtime = SharedRuntime(lambda: load_runtime(path), 1, _MAX_BATCH)
    return ServedModel(spec, spec.version or 1, runtime, card, can_stream=is_lite)


class ModelRegistry:
    """The models of a server; those that are still being loaded are missing.

    Args:
        specs: Models to serve; the first one is the default.
    """

    def __init__(self, specs: Sequence[ModelSpec]) -> None:
        self._specs = tuple(specs)
        self._models: dict[str, dict[int, ServedModel]] = {}
        self.is_complete = False
        """Whether all models are loaded."""

    def load(self, num_workers: int, engine: str = "auto") -> None:
        """Load all models; the errors are those of `load_model`."""
        for spec in self._specs:
            model = load_model(spec, num_workers, engine)
            versions = self._models.setdefault(spec.name, {})
            if versions.setdefault(model.version, model) is not model:
                raise ValueError(f"the versions of a model must differ; received twice: {spec.name} {model.version}")
        self.is_complete = True

    def list_models(self) -> list[ServedModel]:
        """Return all versions of all models, the newest version of each model first."""
        return [versions[number] for versions in self._models.values() for number in sorted(versions, reverse=True)]

    def get(self, name: str | None = None, *, version: int | None = None, label: str | None = None) -> ServedModel:
        """Return a model.

        Args:
            name: Name of the model; None for the default.
            version: Number of the version; None for the newest.
            label: Label of the version; `latest` is that of the newest, unless a version has it.

        Raises:
            RequestError: There is no such model (404), or it is still being loaded (503).
        """
        if not self.is_complete:
            raise RequestError(503, "loading", "the models are being loaded; try again later", 1.0)
        name = self._specs[0].name if name is None else name
        versions = self._models.get(name)
        if versions is None:
            names = ", ".join(self._models)
            raise RequestError(404, "unknown_model", f"`model` must be one of {names}; received: {name[:100]!r}")
        if label is not None:
            labels = {"latest": max(versions)} | {each: k for k, model in versions.items() for each in model.labels}
            if label not in labels:
                allowed = ", ".join(labels)
                raise RequestError(
                    404, "unknown_label", f"the label must be one of {allowed}; received: {label[:100]!r}"
                )
            version = labels[label]
        elif version is None:
            version = max(versions)
        if version not in versions:
            allowed = ", ".join(map(str, sorted(versions)))
            raise RequestError(
                404, "unknown_version", f"the version of {name} must be one of {allowed}; received: {version}"
            )
        return versions[version]

    def get_versions(self, name: str) -> list[ServedModel]:
        """Return the versions of a model, the newest first; the errors are those of `get`."""
        self.get(name)
        return [self._models[name][version] for version in sorted(self._models[name], reverse=True)]

    def close(self) -> None:
        """End the threads of all models."""
        for model in self.list_models():
            model.runtime.close()
