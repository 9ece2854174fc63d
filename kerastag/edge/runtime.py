"""Models in `.tflite` files, run by a LiteRT interpreter without any framework."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kerastag._native_logs import hide_native_logs
from kerastag.card import Card
from kerastag.edge.head import SPLIT_SIGNATURES, SplitHead

__all__ = [
    "AUDIO_INPUTS",
    "INTERPRETER_KEY",
    "INTERPRETER_MODULES",
    "MODEL_INPUTS",
    "MODEL_OUTPUTS",
    "LiteRTModel",
    "Runtime",
    "get_single_input",
    "is_tflite",
]

AUDIO_INPUTS = ("waveform", "log_mel")
"""Names of the input of a model that takes audio."""
MODEL_INPUTS = (*AUDIO_INPUTS, "embedding")
"""Names that the single input of a model can have; the name says what the model takes."""
MODEL_OUTPUTS = ("clipwise", "framewise", "embedding")
"""Names of the outputs that are read."""
INTERPRETER_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
"""Modules that provide an interpreter, in the order in which they are tried."""
INTERPRETER_KEY = "interpreter"
"""Key among the versions of a card: the only package whose interpreter computes the file correctly, if there is one."""


class Runtime(Protocol):
    """What runs a model: a callable from arrays of shape (batch, ...) to outputs by name.

    Attributes:
        input: One of `MODEL_INPUTS`.
        length: Number of samples, frames or segments of the input; None if it takes any number.
        outputs: Names of the outputs.
    """

    input: str
    length: int | None
    outputs: tuple[str, ...]

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]: ...


class LiteRTModel:
    """A `.tflite` file with its card, run clip by clip.

    The interpreter is that of ai-edge-litert, or of tflite-runtime if only that is installed; it is imported when the
    first model is loaded.

    The attributes are `card`, the card in the file; `input` and `shape`, name and shape of the input; `length`, the
    size of its second axis, or None for a waveform of any length, where `shape` is that of one window; `outputs` and
    `output_shapes`, names of the outputs and their shapes by name; and `split`, the `SplitHead` of a file that holds
    one, else None.

    Args:
        path: Path of the file. The file has one signature with one float32 input, `waveform` (1, samples), `log_mel`
            (1, frames, mel_bins) or `embedding` (1, segments, features); or the two signatures of a `SplitHead`.
            A single output whose name is not one of `MODEL_OUTPUTS` is `clipwise`.
        num_threads: Number of threads of a call, at least 1; None leaves it to the interpreter.
        inputs: Names out of `MODEL_INPUTS` that the input may have.
        in_memory: Whether to copy the file to memory, so that it can be overwritten in place while the model is used.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged, has no card or another input, or its card has another number of classes than
            the model; or the interpreter cannot run it, or would compute something else.
        ImportError: No interpreter is installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        num_threads: int | None = None,
        inputs: Sequence[str] = MODEL_INPUTS,
        in_memory: bool = False,
    ) -> None:
        self.path = Path(path)
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"`num_threads` must be at least 1; received: {num_threads!r}")
        self.card = _read_card(self.path)
        interpreter = _load_interpreter(self.path, num_threads, self.card.versions.get(INTERPRETER_KEY), in_memory)
        with _translate_errors(self.path):
            self._open_signatures(interpreter, inputs)

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Process clips of shape (batch, ...), and return the outputs by name, one row per clip."""
        if batch.shape[1:] != self.shape[1:] and (self.length is not None or batch.ndim != 2):
            raise ValueError(f"{self.path}: `{self.input}` must have shape {self.shape}; received: {batch.shape}")
        outputs = [self._runner(**{self.input: clip[None]}) for clip in batch]
        return {
            name: np.concatenate([output[file_name] for output in outputs])
            for name, file_name in self._file_names.items()
        }

    def _open_signatures(self, interpreter: Any, inputs: Sequence[str]) -> None:
        def get_runner(signature: str) -> _Runner:
            return _Runner(self.path, interpreter.get_signature_runner(signature))

        signatures = interpreter.get_signature_list()
        self.split: SplitHead | None = None
        if set(signatures) == set(SPLIT_SIGNATURES):
            self.split = SplitHead(*map(get_runner, SPLIT_SIGNATURES))
        elif len(signatures) != 1:
            raise ValueError(f"{self.path}: must have one signature; received: {len(signatures)}")
        self._runner = self.split or get_runner(next(iter(signatures)))
        details = self._runner.get_input_details()
        self.input = get_single_input(self.path, list(details), inputs)
        detail = details[self.input]
        self.shape: tuple[int, ...] = tuple(int(size) for size in detail["shape"])
        if detail["dtype"] is not np.float32 or len(self.shape) < 2 or self.shape[0] != 1:
            received = f"{np.dtype(detail['dtype']).name} of shape {self.shape}"
            raise ValueError(f"{self.path}: the input must be float32 with a batch size of 1; received: {received}")
        self.length: int | None = self.shape[1]
        if detail["shape_signature"][1:].tolist() == [-1]:
            self.shape, self.length = (1, round(self.card.window_seconds * self.card.sample_rate)), None
        output_details = self._runner.get_output_details()
        is_tagger = len(output_details) == 1 and not output_details.keys() & set(MODEL_OUTPUTS)
        self._file_names = {"clipwise" if is_tagger else name: name for name in output_details}
        self.outputs = tuple(self._file_names)
        self.output_shapes = {
            name: tuple(map(int, output_details[file_name]["shape"])) for name, file_name in self._file_names.items()
        }
        num_classes = self.output_shapes.get("clipwise", (0,))[-1]
        if self.card.labels is not None and num_classes and len(self.card.labels) != num_classes:
            raise ValueError(
                f"{self.path}: the card must name {num_classes} classes, as many as the model has; "
                f"received: {len(self.card.labels)}"
            )


class _Runner:
    """The runner of a signature, whose errors name the file."""

    def __init__(self, path: Path, runner: Any) -> None:
        self._path, self._runner = path, runner
        self.get_input_details, self.get_output_details = runner.get_input_details, runner.get_output_details

    def __call__(self, **inputs: np.ndarray) -> Any:
        with _translate_errors(self._path):
            return self._runner(**inputs)


def is_tflite(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins like a `.tflite` file."""
    with Path(path).open("rb") as file:
        return file.read(8)[4:] == b"TFL3"


def get_single_input(path: Path, names: Sequence[str], allowed: Sequence[str]) -> str:
    """Return the name of the only input of the model at `path`, which must be one of `allowed`."""
    if len(names) != 1 or names[0] not in allowed:
        raise ValueError(f"{path}: must have one input, {' or '.join(allowed)}; received: {', '.join(names)}")
    return names[0]


def _read_card(path: Path) -> Card:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model")
    if not is_tflite(path):
        raise ValueError(f"{path}: not a .tflite model; `kerastag export` writes one")
    # tflite-runtime crashes on a truncated file. The card is at the end of the file, so that such a file has none.
    return Card.read(path)


def _load_interpreter(path: Path, num_threads: int | None, required_package: str | None, in_memory: bool) -> Any:
    for module in INTERPRETER_MODULES:
        with contextlib.suppress(ImportError):
            interpreter_class = import_module(module).Interpreter
            break
    else:
        raise ImportError(f"{path}: running it needs a LiteRT interpreter: pip install 'kerastag[edge]'")
    package = interpreter_class.__module__.partition(".")[0]
    if required_package not in (None, package):
        raise ValueError(
            f"{path}: must be run by {required_package}; received: {package}, which would run the model but compute "
            "something else. `kerastag export --target tflite_runtime` writes a file for both"
        )
    with _translate_errors(path), hide_native_logs():
        source = {"model_content": path.read_bytes()} if in_memory else {"model_path": os.fspath(path)}
        interpreter = interpreter_class(**source, num_threads=num_threads)
        interpreter.allocate_tensors()
    return interpreter


@contextlib.contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Raise a ValueError that names the file for any error of an interpreter."""
    try:
        yield
    # The file is damaged, or holds an operation that is not supported, or has not the signatures of kerastag.
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if reason.startswith(f"{path}: "):
            raise
        raise ValueError(f"{path}: damaged, or not a model that this interpreter can run ({reason})") from None
