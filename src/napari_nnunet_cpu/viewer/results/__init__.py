"""What a run leaves in the viewer: Labels layers, uncertainty, merged and corrected labels."""
