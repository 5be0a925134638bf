"""The range of each rounded value: quantisers, calibration, freezing."""
