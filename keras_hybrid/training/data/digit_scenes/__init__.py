"""Scenes of handwritten digits on cards: masks, instances and boxes without any download."""
