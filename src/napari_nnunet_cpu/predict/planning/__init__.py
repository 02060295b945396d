"""What a run will take before it begins: tiles, seconds, memory."""
