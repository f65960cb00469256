"""The depth beneath SQLite: a VFS shim in the library that the process uses."""
