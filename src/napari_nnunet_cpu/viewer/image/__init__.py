"""Image layers as cases: their axes, spacing and position, and the part of them in view."""
