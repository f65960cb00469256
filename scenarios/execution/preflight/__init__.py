"""Requirements on a target without any fault, checked before any search."""
