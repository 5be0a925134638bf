"""Edits of a converted file."""
