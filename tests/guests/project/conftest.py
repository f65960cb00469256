"""A hook as pytest's own documentation shows it: it reads the fixtures of the test that it reports on."""

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if "tmp_path" in getattr(item, "fixturenames", ()) and call.when == "call":
        report.sections.append(("home", str(item.funcargs["tmp_path"])))
    return report
