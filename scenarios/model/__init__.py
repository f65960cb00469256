"""What a target, a scenario, a check and a result are, and the oracle that judges them. No I/O."""
