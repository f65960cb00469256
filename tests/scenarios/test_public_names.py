"""Every public name of `tornpage` is there, and is loaded only when it is first used."""

import pytest

import tornpage


@pytest.mark.parametrize("name", tornpage.__all__)
def test_a_public_name_can_be_used(name: str) -> None:
    assert getattr(tornpage, name) is not None
    assert name in dir(tornpage)


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Story'"):
        _ = tornpage.Story
