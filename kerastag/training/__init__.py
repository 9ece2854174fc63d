"""Training with `model.fit`: checkpoints, exact resume, evaluation on the way, and what a run leaves behind."""
