"""Layers that compute with int8's roundings, in place of float ones."""
