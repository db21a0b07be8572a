"""The conformance suite's gateways: one for all, and one with little patience for peers that fall silent."""

from collections.abc import Iterator

import pytest

from tests.conformance.site import Site, Sites, start_sites


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Redis, the raw provider, and what starts gateways before it."""
    with start_sites(tmp_path_factory.mktemp("conformance")) as started:
        yield started


@pytest.fixture(scope="session")
def shared_site(sites: Sites) -> Iterator[Site]:
    """The gateway that all tests share."""
    with sites.start("gateway") as started:
        yield started


@pytest.fixture(scope="session")
def shared_impatient_site(sites: Sites) -> Iterator[Site]:
    """A gateway that gives silent peers a second: a busy machine may keep one that is not silent for a part of it."""
    with sites.start("impatient", LECTR_IDLE_TIMEOUT_S="1", LECTR_FIRST_BYTE_TIMEOUT_S="1") as started:
        yield started


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The shared gateway, its provider without records of earlier tests; a script that fails fails the test."""
    yield from _fresh(shared_site)


@pytest.fixture
def impatient_site(shared_impatient_site: Site) -> Iterator[Site]:
    """The impatient gateway, in the same way."""
    yield from _fresh(shared_impatient_site)


def _fresh(of: Site) -> Iterator[Site]:
    of.provider.forget()
    yield of
    of.provider.drop()
    assert of.provider.faults == []
