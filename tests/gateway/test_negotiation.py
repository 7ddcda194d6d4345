import pytest

from gateway.request.negotiation import preferred

KINDS = ("application/json", "image/png", "image/jpeg")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "application/json"), ("", "application/json"), ("*/*", "application/json"),
        ("image/png", "image/png"), ("image/jpeg", "image/jpeg"), ("image/*", "image/png"), ("IMAGE/PNG", "image/png"),
        ("image/png;q=0.5, application/json;q=0.9", "application/json"), ("image/*;q=0.2, image/jpeg", "image/jpeg"),
        ("image/*, image/png;q=0", "image/jpeg"), ("text/html", "application/json"),
        ("text/html,image/webp,*/*;q=0.8", "application/json"), ("image/png;q=x", "application/json"),
    ],
)  # fmt: skip
def test_preferred_kind(header: str | None, expected: str) -> None:
    assert preferred(header, KINDS) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "en"), ("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-US,en;q=0.9,zh-TW;q=0.4", "en"), ("de, zh;q=0.3", "zh"),
        ("*", "en"),
    ],
)  # fmt: skip
def test_preferred_language(header: str | None, expected: str) -> None:
    assert preferred(header, ("en", "zh"), "-") == expected
