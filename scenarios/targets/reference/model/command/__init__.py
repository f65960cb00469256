"""The command of the ledger, specified: what it prints, and its exit code."""
