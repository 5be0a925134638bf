"""scikit-learn's handwritten digits as a TFDS data set, prepared offline in seconds."""
