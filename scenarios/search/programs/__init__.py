"""The searches that only programs in any language have."""
