"""Data: packs of embeddings, the readers that fill them, and what feeds them to training."""
