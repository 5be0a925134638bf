"""What each family's checkpoints look like."""
