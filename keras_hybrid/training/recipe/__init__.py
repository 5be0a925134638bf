"""What a recipe is: numbers, and their checks."""
