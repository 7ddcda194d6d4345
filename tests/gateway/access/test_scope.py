"""The table of routes and scopes names every route that the application has."""

import pytest
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from gateway.access.scope import NEEDS, Scope, needed
from gateway.app import create_app
from gateway.settings import Settings


def routes() -> list[RouteContext]:
    return list(iter_route_contexts(create_app(Settings()).routes))


def test_every_route_stands_in_the_table() -> None:
    unnamed = [route.path for route in routes() if route.path_format not in NEEDS]
    assert not unnamed, "name them in gateway/access/scope.py"


def test_only_open_routes_pass_by_the_guard() -> None:
    """The guard is a dependency, which only FastAPI's own routes have."""
    unguarded = {route.path_format for route in routes() if not isinstance(route.original_route, APIRoute)}
    assert unguarded
    assert {needed(path or "", "GET", metrics_protected=True) for path in unguarded} == {None}


@pytest.mark.parametrize(
    ("route", "method", "scopes"),
    [
        ("/detect", "POST", {Scope.DETECT}),
        ("/defects", "GET", {Scope.DETECT, Scope.CATALOG, Scope.REVIEW}),
        ("/defects/{defect_id}/history", "GET", {Scope.DETECT, Scope.CATALOG}),
        ("/defects", "PUT", {Scope.CATALOG}),
        ("/defects/{defect_id}", "DELETE", {Scope.CATALOG}),
        ("/feedback", "POST", {Scope.REVIEW}),
        ("/admin/models", "GET", set()),
        ("/nobody/named/it", "GET", set()),
    ],
)
def test_a_route_needs_its_scope_and_admin_may_do_all(route: str, method: str, scopes: set[Scope]) -> None:
    assert needed(route, method, metrics_protected=False) == scopes | {Scope.ADMIN}


def test_metrics_are_open_unless_protected() -> None:
    assert needed("/metrics", "GET", metrics_protected=False) is None
    assert needed("/metrics", "GET", metrics_protected=True) == {Scope.ADMIN}
