"""The pytest plugin: `plugin` has the hooks, and loads the rest once a marker, fixture or option is used."""
