"""Which calls are drawn, and with which arguments."""
