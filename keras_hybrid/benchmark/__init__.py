"""What a `.tflite` costs on a device: command lines, output parser, statistics, results."""
