"""The same model behind LitServe, as its documentation writes a server: python _litserve.py MODEL PORT WORKERS."""

import sys

import litserve
import numpy as np
import soundfile
from ai_edge_litert.interpreter import Interpreter
from fastapi import UploadFile


class _TaggerAPI(litserve.LitAPI):
    def setup(self, device):
        self._run = Interpreter(sys.argv[1], num_threads=1).get_signature_runner()

    def decode_request(self, request: UploadFile):
        samples, _ = soundfile.read(request.file, dtype="float32")
        return samples[None]

    def predict(self, waveform):
        return self._run(waveform=waveform)["clipwise"][0]

    def encode_response(self, probabilities):
        best = np.argsort(probabilities)[:-6:-1]
        return {"tags": [{"index": int(i), "probability": float(probabilities[i])} for i in best]}


if __name__ == "__main__":
    server = litserve.LitServer(_TaggerAPI(), accelerator="cpu", workers_per_device=int(sys.argv[3]))
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
