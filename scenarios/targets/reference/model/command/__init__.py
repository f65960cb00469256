"""The command of the ledger, specified: its output, and its exit code."""
