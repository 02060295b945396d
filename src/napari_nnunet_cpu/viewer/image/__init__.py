"""Image layers as cases: their axes, spacing and placement, and the part of them in view."""
