"""Disk: the database's files, its connections, its schema, its transactions and its rows."""
