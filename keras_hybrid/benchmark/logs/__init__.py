"""What the programs print, read with mistrust."""
