"""Rows of measurements as tables, pictures, comparisons."""
