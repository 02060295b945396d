"""Tiles: where they lie, which of them a run computes, in which order, and which labels they make final."""
