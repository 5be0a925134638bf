"""Model -> model passes: the same function, with less to compute. None knows a family."""
