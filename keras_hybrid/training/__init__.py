"""Training: what a recipe is, data, augmentation, schedules, checkpoints, and the run itself."""
