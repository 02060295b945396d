"""Read checkpoints without running any code in them."""
