"""A run's parts on several cores or machines."""
