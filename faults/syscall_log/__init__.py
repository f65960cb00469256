"""The operation log of an external program: its changes, observed with strace, as operations on a tape."""
