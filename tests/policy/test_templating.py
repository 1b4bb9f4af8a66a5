"""Values of an identity in templates: put in, or refused (T-46); never read as syntax."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.policy.templating import UnrenderableError, render, templated

NAME = "identity.entity.metadata.team"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        (f"{{{{{NAME}}}}}", "blue"),
        (f"a-{{{{ {NAME} }}}}-b/{{{{{NAME}}}}}", "a-blue-b/blue"),
        ("a}}b", "a}}b"),
    ],
)
def test_names_are_replaced(text: str, expected: str) -> None:
    assert render(text, {NAME: "blue"}) == expected
    assert templated(text) == (NAME in text)


@pytest.mark.parametrize("values", [{}, {NAME: ""}, {"other": "x"}])
def test_a_name_without_a_value_cannot_be_replaced(values: dict[str, str]) -> None:
    with pytest.raises(UnrenderableError, match="no value could be found"):
        render(f"{{{{{NAME}}}}}", values)


@pytest.mark.parametrize("sign", ["*", "+", "/", ",", " ", "\t", "\n", "\x00", "\x1f", "\x7f"])
def test_a_sign_that_means_something_is_refused_unless_it_is_let_in(sign: str) -> None:
    with pytest.raises(UnrenderableError, match="forbidden value"):
        render(f"{{{{{NAME}}}}}", {NAME: f"a{sign}b"})
    assert render(f"{{{{{NAME}}}}}", {NAME: f"a{sign}b"}, let_in=sign) == f"a{sign}b"


def _means(sign: str) -> bool:
    return sign in "*+/," or sign <= " " or sign == "\x7f"


@given(st.text(min_size=1).filter(lambda text: not any(map(_means, text))))
def test_a_value_never_becomes_another_template(value: str) -> None:
    """What is put in is not looked at again, so `{{...}}` in a value stands for itself."""
    nested = "{{identity.entity.id}}" + value
    assert render(f"<{{{{{NAME}}}}}>", {NAME: nested, "identity.entity.id": "x"}) == f"<{nested}>"
