"""Does the device compute what the file says? The same inputs there and on this machine."""
