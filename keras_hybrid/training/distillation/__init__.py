"""Learning from a teacher's logits."""
