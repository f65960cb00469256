"""What a view has at a key that is not in it: None is a value that a store may show, as for a NULL."""

from typing import Final


class _Absent:
    def __repr__(self) -> str:
        return "nothing"

    def __reduce__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
