"""The results of a run in the viewer: Labels layers, uncertainty, merged and corrected labels."""
