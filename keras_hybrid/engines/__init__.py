"""Real engines that take a `.tflite` or refuse it: asked, not assumed."""
