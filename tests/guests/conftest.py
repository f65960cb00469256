"""The project is what the tests here run; it is no part of this project's own tests."""

collect_ignore = ["project"]
