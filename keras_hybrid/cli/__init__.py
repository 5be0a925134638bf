"""The installed command `keras-hybrid`: one thin module a subcommand, over the library's functions.

Nothing here imports Keras or TensorFlow before a subcommand needs them, so that `--help` answers
at once.
"""
