"""Published checkpoints in: one key map a family, the only transposes, preprocessing presets."""
