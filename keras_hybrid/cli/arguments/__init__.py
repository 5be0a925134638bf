"""What a user typed after a subcommand: paths and numbers, checked before anything is loaded."""
