"""What a phone's speed hangs on: its state before, during and after a run, and its clocks."""
