"""Reports of runs: Markdown for a terminal, and one page that is whole in itself."""
