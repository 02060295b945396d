"""Layers as images: their axes, spacing and place, and what of them is in view."""
