"""The depth of statements: connections that fail at BEGIN, a statement, COMMIT or ROLLBACK."""
