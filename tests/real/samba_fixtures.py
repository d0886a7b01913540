"""Fixtures: the domain and clients of it, brought up once for all tests. Tests name this in ``pytest_plugins``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from integrations.active_directory import ActiveDirectory
from lab.certificates import make_certificates
from tests.real.packages import need
from tests.real.samba import (
    BASE_DN,
    DNS_DOMAIN,
    HOST,
    PASSWORD,
    SERVICE_ACCOUNT,
    Connect,
    Controller,
    Controllers,
    Domain,
    free_addresses,
    seed,
)


@pytest.fixture(scope="session")
def controllers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controllers]:
    """Both running, and gone afterwards with all that they wrote."""
    need("Samba")
    root = tmp_path_factory.mktemp("ad")
    running: list[Controller] = []
    with free_addresses(4) as (one, one_unnamed, two, two_unnamed):
        tls = make_certificates(root / "tls", names=(HOST, one, two, "127.0.0.1"))
        first = Controller(root / "dc1", tls, one, one_unnamed)
        running.append(first)
        try:
            first.provision()
            first.start()
            seed(first)
            first.kill(gently=True)
            second = first.copy(root / "dc2", two, two_unnamed)
            running.append(second)
            first.start()
            second.start()
            yield Controllers(first, second, tls)
        finally:
            for controller in running:
                controller.kill()
            shutil.rmtree(root)


@pytest.fixture(scope="session")
def connect(controllers: Controllers) -> Connect:
    def make(*urls: str, user: str = SERVICE_ACCOUNT, password: str = PASSWORD, **more: Any) -> ActiveDirectory:
        bind_user = user if "=" in user else f"{user}@{DNS_DOMAIN}"
        options: dict[str, Any] = {"ca_file": controllers.tls.ca_file, "base_dn": BASE_DN} | more
        return ActiveDirectory(urls or (controllers.first.url,), bind_user, password, **options)

    return make


@pytest.fixture(scope="session")
def directory(connect: Connect) -> ActiveDirectory:
    """The client under test, with the service account's one right."""
    return connect()


@pytest.fixture(scope="session")
def domain(controllers: Controllers) -> Iterator[Domain]:
    """The administrator's sight of the first controller."""
    admin = Domain(controllers.first)
    yield admin
    admin.close()
