"""The operation log of a program of its own: what strace sees it change, as operations on a tape."""
