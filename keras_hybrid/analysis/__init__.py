"""What a network costs and what it attends to."""
