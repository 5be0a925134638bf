"""What networks of every task say of pictures, and what that is worth."""
