"""A story: the steps that lead to a finding, as data that a person can read and a file can carry.

Sweeps, machines and replay files all speak in stories; `scenarios.player` plays them.
"""

from typing import Literal

import msgspec

from scenarios.target import Action, Configuration

Depth = Literal["vfs", "statement"]


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Make one call."""

    action: Action

    def __str__(self) -> str:
        return str(self.action)


class Arm(msgspec.Struct, frozen=True, tag="arm"):
    """Arm a fault plan, in its text form; it replaces what was armed at that depth."""

    plan: str
    depth: Depth = "vfs"

    @property
    def slot(self) -> str:
        """A condition takes the place of the one that is in force in the same slot."""
        return self.depth

    def __str__(self) -> str:
        return f"arm {self.plan}" + (" at the statement depth" if self.depth == "statement" else "")


class Clear(msgspec.Struct, frozen=True, tag="clear"):
    """Disarm everything."""

    def __str__(self) -> str:
        return "clear"


class Restart(msgspec.Struct, frozen=True, tag="restart"):
    """End the process and start again: in good order, or by a crash that leaves what reached the system."""

    crash: bool = False

    def __str__(self) -> str:
        return "crash and restart" if self.crash else "restart"


Conditional = Arm
Step = Call | Arm | Clear | Restart


class Story(msgspec.Struct, frozen=True):
    """What to play: the target by name, its configuration, and the steps."""

    target: str
    configuration: Configuration
    steps: tuple[Step, ...]

    @property
    def faults(self) -> int:
        """How many fault plans the story arms."""
        return sum(isinstance(step, Arm) for step in self.steps)

    def __str__(self) -> str:
        lines = [f"{self.target} at {self.configuration}"]
        lines += [f"  {number}. {step}" for number, step in enumerate(self.steps, start=1)]
        return "\n".join(lines)
