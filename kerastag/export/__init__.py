"""A trained model -> files that other programs run, each measured against Keras before it is kept."""
