"""Targets in any language: programs that speak JSON lines over standard input and output.

`ProcessTarget` puts one under test; `schema` is the protocol as a JSON Schema. See ``docs/any-language.md``.
"""

from pathlib import Path

from tornpage.scenarios.targets.process.program import DiedError, GarbledError, HungError, Program, ProgramError
from tornpage.scenarios.targets.process.protocol import PROTOCOL, SCHEMA_FILE, schema
from tornpage.scenarios.targets.process.target import ProcessSession, ProcessTarget, StoreError, WriterLivesError

# Complete programs to start from: in JavaScript and in C.
EXAMPLES = Path(__file__).with_name("examples")
# For each language a helper that speaks the protocol, and an example that uses it.
ADAPTERS = Path(__file__).with_name("adapters")

__all__ = [
    "ADAPTERS",
    "EXAMPLES",
    "PROTOCOL",
    "SCHEMA_FILE",
    "DiedError",
    "GarbledError",
    "HungError",
    "ProcessSession",
    "ProcessTarget",
    "Program",
    "ProgramError",
    "StoreError",
    "WriterLivesError",
    "schema",
]
