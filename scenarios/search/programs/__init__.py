"""The searches for programs in any language only."""
