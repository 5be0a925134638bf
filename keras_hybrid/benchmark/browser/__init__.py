"""`.tflite` files in a browser, on any phone: a page, its server, and rows of what was measured."""
