"""Checkpoints, read without running anything that is in them."""
