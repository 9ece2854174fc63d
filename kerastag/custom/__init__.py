"""Train a tagger of your own sounds on top of a pretrained model."""
