"""Published weights by name: homes, download, cache."""
