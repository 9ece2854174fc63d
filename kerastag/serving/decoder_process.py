"""The process that decodes recordings for the server; `kerastag.serving.decoding` starts it and talks to it.

It reads requests from a socket and writes frames: one byte for the kind, four for the length, and the content. A
recording arrives as the descriptor of a file in memory, so that this process gets no path from a client. Its samples go
into memory that both processes share, which has room for two blocks; a byte from the server frees one.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import socket
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

__all__ = ["BLOCK", "BLOCK_SECONDS", "END", "ERROR", "NUM_SLOTS", "START", "pack_frame", "receive_exactly"]

START, BLOCK, END, ERROR = b"S", b"B", b"E", b"X"
BLOCK_SECONDS, NUM_SLOTS = 10.0, 2
"""Length of a block, and number of blocks in the shared memory."""
_MAX_FILE_BYTES = 1 << 20  # of the log of ffmpeg, the only file that is written


def pack_frame(kind: bytes, content: bytes) -> bytes:
    """Return a frame."""
    return kind + struct.pack("<I", len(content)) + content


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Receive a number of bytes; fewer where the other side has closed the connection."""
    content = bytearray(size)
    view, received = memoryview(content), 0
    while received < size and (count := connection.recv_into(view[received:])):
        received += count
    return bytes(view[:received])


def _serve(connection: socket.socket) -> None:
    from kerastag import audio
    from kerastag.tagger.start_times import read_start_time

    memory: mmap.mmap | None = None
    while True:
        header, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
        if len(header) < 4 or not descriptors:
            return
        if len(descriptors) > 1:  # other memory than that of the recordings before
            memory = mmap.mmap(descriptors[1], 0)
            os.close(descriptors[1])
        assert memory is not None  # for the type checker: the first request brings it
        request = json.loads(receive_exactly(connection, *struct.unpack("<I", header)))
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_seconds = int(used.ru_utime + used.ru_stime) + 1 + request["cpu_seconds"]
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, resource.RLIM_INFINITY))
        # With the number of this process, the path is right for ffmpeg too.
        recording = audio.NamedPath(f"/proc/{os.getpid()}/fd/{descriptors[0]}", request["name"])
        with warnings.catch_warnings(record=True) as audio_warnings:
            warnings.simplefilter("always", audio.AudioWarning)
            try:
                started_at = read_start_time(recording, name=request["name"])
                connection.sendall(pack_frame(START, (started_at.isoformat() if started_at else "").encode()))
                seconds = _send_blocks(connection, memory, recording, request)
                messages = list(dict.fromkeys(" ".join(str(warning.message).split()) for warning in audio_warnings))
                frame = pack_frame(END, json.dumps({"seconds": seconds, "warnings": messages}).encode())
            except ConnectionError:
                raise
            except Exception as error:
                frame = pack_frame(ERROR, json.dumps(_describe_error(error)).encode())
            finally:
                os.close(descriptors[0])
        connection.sendall(frame)


def _send_blocks(
    connection: socket.socket, memory: mmap.mmap, recording: os.PathLike[str], request: dict[str, Any]
) -> float:
    import numpy as np

    from kerastag import audio

    rate, num_samples = request["sample_rate"], 0
    max_samples = round(request["max_seconds"] * rate)
    slots, num_used = np.frombuffer(memory, "<f4").reshape(NUM_SLOTS, -1), 0
    try:
        for number, block in enumerate(audio.read_blocks(recording, rate, BLOCK_SECONDS, channel=request["channel"])):
            num_samples += len(block)
            if num_samples > max_samples:
                raise OverflowError(f"{recording}: must be at most {request['max_seconds']:g} s long; it is longer")
            if num_used == NUM_SLOTS:
                num_used -= _receive_release(connection)
            slots[number % NUM_SLOTS, : len(block)] = block
            connection.sendall(pack_frame(BLOCK, struct.pack("<I", len(block))))
            num_used += 1
    finally:
        while num_used:
            num_used -= _receive_release(connection)
    return num_samples / rate


def _receive_release(connection: socket.socket) -> int:
    """Wait until the server has used a block, and return 1."""
    if not connection.recv(1):
        raise BrokenPipeError
    return 1


def _describe_error(error: Exception) -> dict[str, str]:
    from kerastag.audio import UnsupportedAudioError

    kinds = {OverflowError: "too_long", MemoryError: "too_large", UnsupportedAudioError: "unsupported_audio"}
    kind = next((kind for class_, kind in kinds.items() if isinstance(error, class_)), "invalid_audio")
    message = " ".join(str(error).split())
    return {"kind": kind, "message": message if isinstance(error, ValueError | OverflowError) else _format_other(error)}


def _format_other(error: Exception) -> str:
    """Format an unexpected error without the paths of this machine."""
    if isinstance(error, MemoryError):
        return "decoding the recording needs too much memory"
    return f"the recording cannot be decoded ({type(error).__name__})"


def _limit_resources(memory_mb: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))


def main() -> None:
    """Run the process, whose arguments are the descriptor of its socket and its address space in megabytes."""
    descriptor, memory_mb = map(int, sys.argv[1:])
    _limit_resources(memory_mb)
    with socket.socket(fileno=descriptor) as connection:
        from kerastag import audio

        _ = audio.read_blocks  # loads NumPy and libsndfile before the first recording
        try:
            connection.sendall(START)
            _serve(connection)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The server has no more use for the recording, or has ended.


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
