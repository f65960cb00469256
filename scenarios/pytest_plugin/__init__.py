"""The heavy part of the pytest plugin: loaded by `scenarios.pytest_plugin.plugin` once a marker, fixture or option is used."""
