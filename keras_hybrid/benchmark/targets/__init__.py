"""Where a file is timed: phones, apps on phones, this machine."""
