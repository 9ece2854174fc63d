"""What TensorFlow reads from the environment when it is loaded."""

import os


def prepare_tensorflow() -> None:
    """Set what our commands want of TensorFlow, unless the user has set it; before TensorFlow is imported.

    oneDNN's convolutions are on by default only where the processor has AVX512-VNNI or more. On one with AVX2 they
    take half to four fifths of the time of TensorFlow's own.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its notes on its start are no news
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
