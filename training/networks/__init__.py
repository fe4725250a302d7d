"""The training step of each network."""
