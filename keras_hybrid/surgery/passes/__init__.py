"""One edit a file: the same function, with less to compute or in terms of faster operators."""
