"""What a target is held to without any fault, before any search."""
