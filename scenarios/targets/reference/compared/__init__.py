"""Each call of the ledger, its answer and its lists, compared with the model."""
