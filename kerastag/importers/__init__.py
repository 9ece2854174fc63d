"""Other people's checkpoints -> `.keras` files of this package. No PyTorch, and nothing in a file is ever run."""
