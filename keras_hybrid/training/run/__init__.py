"""A training run and its folder, which survive interruption."""
