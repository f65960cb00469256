"""The statement depth: connections that fail at BEGIN, a statement, COMMIT or ROLLBACK."""
