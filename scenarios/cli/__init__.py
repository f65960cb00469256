"""The command ``tornpage``. Exit codes: 0 holds, 1 a finding, 2 could not run or tested nothing, 130 interrupted."""

from tornpage.scenarios.cli.group import main, tornpage

__all__ = ["main", "tornpage"]
