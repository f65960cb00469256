"""Rules for every state of the reference, and for every change of one."""
