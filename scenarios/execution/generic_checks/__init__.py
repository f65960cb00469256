"""What every store is held to, without a word from its target."""
