"""Keras layers, written in `keras.ops` alone: they run on every Keras backend. One public layer a file."""
