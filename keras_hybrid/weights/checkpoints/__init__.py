"""Checkpoints into models and back: files, key maps, layouts of tensors."""
