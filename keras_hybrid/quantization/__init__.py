"""int8: the table from layer class to quantised twin, the rewrite, calibration."""

# Before any module of the room: what Keras' import registers imports them itself.
import keras  # noqa: F401
