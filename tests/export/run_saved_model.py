"""Run a SavedModel with the C library of TensorFlow alone: without kerastag, Keras and the Python package.

python -I run_saved_model.py TENSORFLOW_FOLDER SAVED_MODEL INPUT_TENSOR INPUT.npy OUTPUT_TENSOR OUTPUT.npy
"""

import ctypes
import sys
from typing import Any

import numpy as np

_FLOAT = 1
_POINTERS = (
    "TF_NewStatus TF_NewGraph TF_NewSessionOptions TF_LoadSessionFromSavedModel TF_Message TF_GraphOperationByName "
    "TF_AllocateTensor TF_TensorData"
)


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _SavedModelSession:
    """A SavedModel in a session of TensorFlow's C interface."""

    def __init__(self, library: ctypes.CDLL, folder: str) -> None:
        self._library = library
        for name in _POINTERS.split():
            getattr(library, name).restype = ctypes.c_void_p
        library.TF_Dim.restype = ctypes.c_int64
        self._status = ctypes.c_void_p(library.TF_NewStatus())
        self._graph = ctypes.c_void_p(library.TF_NewGraph())
        options = ctypes.c_void_p(library.TF_NewSessionOptions())
        tags = (ctypes.c_char_p * 1)(b"serve")
        session = library.TF_LoadSessionFromSavedModel(
            options, None, folder.encode(), tags, 1, self._graph, None, self._status
        )
        self._check()
        self._session = ctypes.c_void_p(session)

    def run(self, input_name: str, array: np.ndarray, output_name: str) -> np.ndarray:
        """Run one float32 input to one float32 output, both tensors named like `operation:0`."""
        library, shape = self._library, (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = ctypes.c_void_p(library.TF_AllocateTensor(_FLOAT, shape, array.ndim, ctypes.c_size_t(array.nbytes)))
        ctypes.memmove(library.TF_TensorData(tensor), np.ascontiguousarray(array).ctypes.data, array.nbytes)
        inputs, outputs = (self._find(name) for name in (input_name, output_name))
        results = (ctypes.c_void_p * 1)()
        library.TF_SessionRun(
            *(self._session, None, ctypes.byref(inputs), (ctypes.c_void_p * 1)(tensor), 1),
            *(ctypes.byref(outputs), results, 1, None, 0, None, self._status),
        )
        self._check()
        result = ctypes.c_void_p(results[0])
        sizes = [library.TF_Dim(result, axis) for axis in range(library.TF_NumDims(result))]
        data = (ctypes.c_float * int(np.prod(sizes))).from_address(library.TF_TensorData(result))
        return np.array(data, np.float32).reshape(sizes)

    def _find(self, tensor_name: str) -> _Output:
        name, _, index = tensor_name.partition(":")
        operation = self._library.TF_GraphOperationByName(self._graph, name.encode())
        if not operation:
            raise SystemExit(f"no operation {name!r} in the SavedModel")
        return _Output(operation, int(index))

    def _check(self) -> None:
        if self._library.TF_GetCode(self._status):
            message: Any = ctypes.string_at(self._library.TF_Message(self._status))
            raise SystemExit(message.decode())


if __name__ == "__main__":
    tensorflow_folder, saved_model, input_tensor, input_path, output_tensor, output_path = sys.argv[1:]
    library = ctypes.CDLL(f"{tensorflow_folder}/libtensorflow_cc.so.2")
    output = _SavedModelSession(library, saved_model).run(input_tensor, np.load(input_path), output_tensor)
    np.save(output_path, output)
    modules = sorted({"kerastag", "keras", "tensorflow"} & set(sys.modules))
    raise SystemExit(f"imported: {modules}" if modules else 0)
