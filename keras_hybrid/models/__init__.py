"""The families: one file each, the paper's table of variants first."""
