"""What training asks of a task: one file each, beside the numbers of its recipe."""
