"""The report as one self-contained HTML file. See ``docs/report.md``."""

from tornpage.scenarios.report.html.page import page_of_bugs, page_of_run

__all__ = ["page_of_bugs", "page_of_run"]
