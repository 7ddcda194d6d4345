"""What the overlays render to, once for all tests; without kubectl these tests skip."""

import copy

import pytest

from tests.k8s.manifests import K8S, KUBECTL, Object, render

OVERLAYS = ("dev", "production", "canary")


@pytest.fixture(scope="session")
def overlays() -> dict[str, list[Object]]:
    """The objects of each overlay, by its name."""
    if KUBECTL is None:
        pytest.skip("kubectl is not installed; its kustomize renders the manifests")
    return {name: render(K8S / "overlays" / name) for name in OVERLAYS}


@pytest.fixture
def production(overlays: dict[str, list[Object]]) -> list[Object]:
    """The objects of production, for a test to change."""
    return copy.deepcopy(overlays["production"])
