"""A `.tflite` file -> arrays in, arrays out, in a LiteRT interpreter; no framework."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kerastag.card import Card
from kerastag.edge.head import SPLIT, SplitHead

__all__ = ["HEARD", "INPUTS", "NEEDS", "OUTPUTS", "PACKAGES", "LiteRTModel", "Runtime", "is_tflite", "only_input"]

HEARD = ("waveform", "log_mel")
"""Inputs of a model that hears."""
INPUTS = (*HEARD, "embedding")
"""Names that a model's one input may have: what it takes."""
PACKAGES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
"""Where the interpreter is looked for, the first one first."""
NEEDS = "interpreter"
"""Among a card's versions: the one package whose interpreter computes the file rightly, where there is but one."""
OUTPUTS = ("clipwise", "framewise", "embedding")
"""Names of outputs that are read."""


class Runtime(Protocol):
    """What runs a model: arrays (batch, ...) -> outputs by name.

    `input` is one of `INPUTS`; `length` its samples, frames or segments, None where it takes any number; `outputs` are
    the names of what it gives.
    """

    input: str
    length: int | None
    outputs: tuple[str, ...]

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]: ...


class LiteRTModel:
    """A `.tflite` file -> its outputs by name, clip by clip.

    The interpreter is that of ai-edge-litert, or of tflite-runtime where only that is installed; it is imported when
    the first model is loaded.

    `card` is what the file says of itself, `shape` that of its input, `output_shapes` are those of its outputs by name;
    `split` is what hears a head in two segment by segment, None for other files.

    Args:
        path: The file, its card inside. It has one signature, whose one input is called `waveform` (1, samples),
            `log_mel` (1, frames, mel_bins) or `embedding` (1, segments, features), float32;
            or the two of a `SplitHead`. A single output with a name that is none of `OUTPUTS` is `clipwise`.
        num_threads: Threads of one call, at least 1; None leaves it to the interpreter.
        inputs: Which of `INPUTS` will do.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no whole model, has no card or other inputs, or its card names another number of
            classes than it has; the interpreter cannot run it, or would run it wrongly.
        ImportError: No interpreter is installed.
    """

    def __init__(
        self, path: str | os.PathLike[str], num_threads: int | None = None, inputs: Sequence[str] = INPUTS
    ) -> None:
        self.path = Path(path)
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"`num_threads` must be at least 1, received {num_threads!r}")
        self.card = _card(self.path)
        interpreter = _load(self.path, num_threads, self.card.versions.get(NEEDS))
        signatures = interpreter.get_signature_list()
        self.split: SplitHead | None = None
        if set(signatures) == set(SPLIT):
            self.split = SplitHead(*map(interpreter.get_signature_runner, SPLIT))
        elif len(signatures) != 1:
            raise ValueError(f"{self.path}: must have one signature, received {len(signatures)}")
        self._run = self.split or interpreter.get_signature_runner(next(iter(signatures)))
        details = self._run.get_input_details()
        self.input = only_input(self.path, list(details), inputs)
        detail = details[self.input]
        self.shape: tuple[int, ...] = tuple(int(size) for size in detail["shape"])
        if detail["dtype"] is not np.float32 or self.shape[0] != 1 or len(self.shape) < 2:
            received = f"{np.dtype(detail['dtype']).name} of shape {self.shape}"
            raise ValueError(f"{self.path}: its input must be float32 with a batch of 1, received {received}")
        self.length: int | None = self.shape[1]
        given = self._run.get_output_details()
        is_tagger = len(given) == 1 and not given.keys() & set(OUTPUTS)
        self._names = {name: OUTPUTS[0] if is_tagger else name for name in given}
        self.outputs = tuple(self._names.values())
        self.output_shapes = {ours: tuple(map(int, given[theirs]["shape"])) for theirs, ours in self._names.items()}
        self._check_classes()

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Clips (batch, ...) -> outputs by name, a row for each clip.

        Raises:
            ValueError: The clips have another shape than the model's input.
        """
        if batch.shape[1:] != self.shape[1:]:
            raise ValueError(f"{self.path}: `{self.input}` must have shape {self.shape}, received {batch.shape}")
        clips = [self._run(**{self.input: clip[None]}) for clip in batch]
        if len(clips) == 1:
            return {ours: clips[0][theirs] for theirs, ours in self._names.items()}
        return {ours: np.concatenate([clip[theirs] for clip in clips]) for theirs, ours in self._names.items()}

    def _check_classes(self) -> None:
        if self.card.labels is None or OUTPUTS[0] not in self.outputs:
            return
        classes = self.output_shapes[OUTPUTS[0]][-1]
        if len(self.card.labels) != classes:
            raise ValueError(f"{self.path}: has {classes} classes, but its card names {len(self.card.labels)}")


def is_tflite(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as `.tflite` files do."""
    with Path(path).open("rb") as file:
        return file.read(8)[4:] == b"TFL3"


def only_input(path: Path, names: Sequence[str], allowed: Sequence[str]) -> str:
    """Names of a model's inputs -> the one input.

    Raises:
        ValueError: There are several, or it is called something else.
    """
    if len(names) != 1 or names[0] not in allowed:
        raise ValueError(f"{path}: must have one input, {' or '.join(allowed)}, received {', '.join(names)}")
    return names[0]


def _card(path: Path) -> Card:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model")
    if not is_tflite(path):
        raise ValueError(f"{path}: is no .tflite model; `python -m kerastag export` makes one")
    return Card.read(path)  # it stands at the file's end: a truncated file, at which tflite-runtime dies, has none


def _load(path: Path, num_threads: int | None, needed: str | None) -> Any:
    interpreter_class = _interpreter_class(path)
    package = interpreter_class.__module__.partition(".")[0]
    if needed not in (None, package):
        raise ValueError(
            f"{path}: must be run by {needed}, found {package}, which would take it and compute something else; "
            "`python -m kerastag export --target tflite_runtime` makes a file for both"
        )
    try:
        interpreter = interpreter_class(model_path=os.fspath(path), num_threads=num_threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:  # a damaged file, or an operation that this interpreter does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path}: is damaged, or no model that {package} runs ({reason})") from None
    return interpreter


def _interpreter_class(path: Path) -> Any:
    for package in PACKAGES:
        try:
            return import_module(package).Interpreter
        except ImportError:
            continue
    raise ImportError(f"{path}: running it needs a LiteRT interpreter: pip install 'kerastag[edge]'")
