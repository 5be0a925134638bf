"""Edits that only quantisation needs."""
