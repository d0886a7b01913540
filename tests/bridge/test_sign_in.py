"""Signing in, over real sockets: a browser with cookies, the desk's routes, and a provider that lies on demand."""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bridge.session import session_of
from bridge.signin import SignIn, local
from lab.certificates import LabCertificates, make_certificates
from lab.issuer import IssuerLab, LabPerson, Quirk
from lab.servers import free_port
from lab.serving import Served
from settings import SettingsRefused
from settings_bridge import DeskSettings

ANA, OMAR = LabPerson("ana.lopez@acme.example", "Ana López"), LabPerson("omar.haddad@acme.example", "Omar Haddad")
KEY, NEXT_KEY = "a key of the tests, long enough", "the key that comes after it, as long"
CASE = "/cases/sua-acme-10.20.30.40?from=mail"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LabCertificates:
    return make_certificates(tmp_path_factory.mktemp("issuer"))


@dataclass
class World:
    """A provider, the desk's settings, and where the desk is."""

    issuer: IssuerLab
    ca_file: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def desk(self, **changes: Any) -> DeskSettings:
        oidc = {
            "issuer": self.issuer.url,
            "client_id": self.issuer.client_id,
            "client_secret": self.issuer.client_secret,
            "ca_file": self.ca_file,
            **changes.pop("oidc", {}),
        }
        return DeskSettings.model_validate(
            {"url": self.url, "key": KEY, "provider": "oidc", "oidc": oidc, **changes},
        )

    @asynccontextmanager
    async def serving(self, **changes: Any) -> AsyncIterator[None]:
        sign_in = SignIn(self.desk(**changes))
        app = Starlette(routes=[*sign_in.routes(), Route("/{rest:path}", _whoami)])
        app.state.sessions = sign_in.sessions
        try:
            async with Served(app, self.port):
                yield
        finally:
            await sign_in.aclose()

    def browser(self, **options: Any) -> httpx.AsyncClient:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        return httpx.AsyncClient(
            base_url=self.url, verify=context, trust_env=False, **{"follow_redirects": True, **options}
        )


async def _whoami(request: Request) -> Response:
    session = session_of(request)
    if session is None:
        return PlainTextResponse(f"nobody at {request.url.path}", status_code=401)
    return PlainTextResponse(f"{session.analyst}|{session.name}|{request.url.path}?{request.url.query}|{session.csrf}")


@pytest.fixture
async def world(certificates: LabCertificates) -> AsyncIterator[World]:
    issuer = IssuerLab([ANA, OMAR], algorithm="ES256")  # its keys are made in no time
    served = Served(issuer.app, certificate=certificates.cert_file, key=certificates.key_file)
    async with served:
        issuer.url = served.url
        made = World(issuer, certificates.ca_file, free_port(0))
        issuer.redirects.add(f"{made.url}/sign-in/callback")
        yield made


async def sign_in(browser: httpx.AsyncClient, who: LabPerson | None = ANA, onward: str = CASE) -> httpx.Response:
    """As a person does it: open the page, choose who one is."""
    chooser = await browser.get("/sign-in", params={"next": onward})
    assert "Who are you?" in chooser.text, chooser.text
    return await browser.post(chooser.url, data={"who": who.mail if who else ""})


async def test_a_person_signs_in_and_lands_where_they_wanted_to_be(world: World) -> None:
    async with world.serving(), world.browser() as browser:
        assert (await browser.get(CASE)).status_code == 401
        answer = await sign_in(browser)
        assert answer.status_code == 200
        mail, name, where, csrf = answer.text.split("|")
        assert (mail, name, where) == (ANA.mail, ANA.name, CASE)
        assert len(csrf) > 20
    assert world.issuer.signed_in == [ANA.mail]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("methods", [("client_secret_basic",), ("client_secret_post",)])
async def test_what_providers_differ_in(world: World, algorithm: Any, methods: tuple[str, ...]) -> None:
    world.issuer.algorithm, world.issuer.auth_methods = algorithm, methods
    world.issuer.thin, world.issuer.named = True, True
    async with world.serving(), world.browser() as browser:
        assert (await sign_in(browser)).text.startswith(ANA.mail)


_ADMITTED = {"no_mail": "tells no mail address", "two_mails": "tells no mail address", "unverified": "has not verified"}
_BROKEN = {"no_id_token"}


@pytest.mark.parametrize("quirk", get_args(Quirk))
async def test_a_token_that_proves_nothing_signs_nobody_in(
    world: World, quirk: Quirk, caplog: pytest.LogCaptureFixture
) -> None:
    world.issuer.quirk = quirk
    world.issuer.algorithm = "RS256" if quirk == "hs256" else "ES256"
    async with world.serving(), world.browser() as browser:
        with caplog.at_level(logging.DEBUG, logger="holdpoint"):
            answer = await sign_in(browser)
        assert answer.status_code == (503 if quirk in _BROKEN else 403)
        assert _ADMITTED.get(quirk, "") in answer.text
        assert "sign in" in answer.text.lower()
        assert (await browser.get(CASE)).status_code == 401
        assert "sign-in" in caplog.text
        # And it is not the sign-in that is broken: the same browser, with a true token.
        world.issuer.quirk = None
        assert (await sign_in(browser)).text.startswith(ANA.mail)


async def test_the_keys_may_change_while_the_desk_runs(world: World) -> None:
    async with world.serving():
        for _ in range(2):
            async with world.browser() as browser:
                assert (await sign_in(browser)).text.startswith(ANA.mail)
            world.issuer.rotate()
        world.issuer.faults.requests.clear()
        world.issuer.quirk = "unpublished_key"
        async with world.browser() as browser:
            assert (await sign_in(browser)).status_code == 403
        assert [path for _, path in world.issuer.faults.requests].count("/keys") == 1


async def test_nobody_is_chosen(world: World) -> None:
    async with world.serving(), world.browser() as browser:
        answer = await sign_in(browser, who=None)
        assert answer.status_code == 403
        assert "<b>" not in answer.text
        assert "/sign-in?next=%2Fcases%2F" in answer.text


@pytest.mark.parametrize(
    "fault",
    ["500", "html200", "reset", "truncated"],
)
@pytest.mark.parametrize("where", ["/.well-known", "/keys", "/token"])
async def test_a_provider_that_is_not_there_is_said_plainly(world: World, fault: str, where: str) -> None:
    world.issuer.faults.add(fault, match=where, times=5)
    async with world.serving(), world.browser() as browser:
        answer = await browser.get("/sign-in", params={"next": CASE})
        if "Who are you?" in answer.text:
            answer = await browser.post(answer.url, data={"who": ANA.mail})
        assert answer.status_code == 503
        assert "links in the mails work without signing in" in answer.text
        assert "Traceback" not in answer.text


async def test_a_provider_that_hangs_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.openid.SECONDS", 0.3)
    world.issuer.faults.add("slow", match="/.well-known", seconds=30)
    async with world.serving(), world.browser() as browser:
        assert (await browser.get("/sign-in")).status_code == 503


async def test_a_provider_of_another_name_or_in_clear(world: World) -> None:
    true = world.issuer.url
    async with world.serving(), world.browser() as browser:
        world.issuer.url = "https://elsewhere.example"
        assert (await browser.get("/sign-in")).status_code == 503
    world.issuer.url = true
    document = f'{{"issuer": "{true}", "authorization_endpoint": "http://elsewhere.example/a", "token_endpoint":'
    document += f' "{true}/token", "jwks_uri": "{true}/keys"}}'
    world.issuer.faults.add("error200", match="/.well-known", body=document.encode())
    async with world.serving(), world.browser() as browser:
        assert (await browser.get("/sign-in")).status_code == 503
        assert "Who are you?" in (await browser.get("/sign-in")).text  # nothing faulty was kept


async def test_an_answer_that_another_browser_began_is_refused(world: World) -> None:
    async with world.serving(), world.browser() as theirs, world.browser(follow_redirects=False) as ours:
        chooser = await theirs.get("/sign-in")
        back = await theirs.post(chooser.url, data={"who": OMAR.mail}, follow_redirects=False)
        answer = await ours.get(back.headers["location"])
        assert answer.status_code == 400
        assert "set-cookie" not in answer.headers
        assert (await theirs.get(back.headers["location"])).text.startswith(OMAR.mail)
        # The answer is good once.
        assert (await theirs.get(back.headers["location"])).status_code == 400


async def test_a_code_of_another_sign_in_is_refused(world: World) -> None:
    """Somebody else's code, pasted into one's own answer: PKCE and the nonce hold it off."""
    async with world.serving(), world.browser() as theirs, world.browser() as ours:
        codes = []
        for browser in (theirs, ours):
            chooser = await browser.get("/sign-in")
            back = await browser.post(chooser.url, data={"who": OMAR.mail}, follow_redirects=False)
            codes.append(parse_qs(urlsplit(back.headers["location"]).query))
        mixed = {"code": codes[0]["code"][0], "state": codes[1]["state"][0]}
        assert (await ours.get("/sign-in/callback", params=mixed)).status_code == 403
    assert not world.issuer.signed_in


async def test_an_answer_in_another_issuers_name_is_refused(world: World) -> None:
    world.issuer.named = "https://elsewhere.example"
    async with world.serving(), world.browser() as browser:
        assert (await sign_in(browser)).status_code == 403


async def test_two_sign_ins_at_once_in_one_browser(world: World) -> None:
    async with world.serving(), world.browser() as browser:
        choosers = [await browser.get("/sign-in", params={"next": f"/cases/{n}"}) for n in range(2)]
        for number, chooser in enumerate(choosers):
            assert f"|/cases/{number}?|" in (await browser.post(chooser.url, data={"who": ANA.mail})).text


async def test_each_sign_in_is_a_session_of_its_own(world: World) -> None:
    async with world.serving(), world.browser() as browser:
        first = (await sign_in(browser)).text.rsplit("|", 1)[1]
        kept = browser.cookies["holdpoint-session"]
        assert (await sign_in(browser)).text.rsplit("|", 1)[1] != first
        assert browser.cookies["holdpoint-session"] != kept
        # A session that somebody planted is not the one that one signs in to.
        async with world.browser(cookies={"holdpoint-session": kept}) as planted:
            await sign_in(planted, OMAR)
            assert (await planted.get("/")).text.startswith(OMAR.mail)


async def test_signing_out_takes_a_page_of_ours_and_ends_every_copy(world: World) -> None:
    async with world.serving(), world.browser() as browser:
        csrf = (await sign_in(browser)).text.rsplit("|", 1)[1]
        copied = browser.cookies["holdpoint-session"]
        assert (await browser.get("/sign-out")).text.startswith(ANA.mail)  # the catch-all of this test
        for wrong in ({}, {"csrf": ""}, {"csrf": csrf[:-1] + "é"}):
            assert (await browser.post("/sign-out", data=wrong)).status_code == 403
        assert (await browser.get("/")).text.startswith(ANA.mail)
        answer = await browser.post("/sign-out", data={"csrf": csrf})
        assert (answer.status_code, answer.url.path) == (200, "/signed-out")
        assert (await browser.get("/")).status_code == 401
        async with world.browser(cookies={"holdpoint-session": copied}) as thief:
            assert (await thief.get("/")).status_code == 401
        assert (await browser.post("/sign-out")).status_code == 200


async def test_a_session_ends_in_its_time_whatever_one_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    true = time.time
    async with world.serving(oidc={"last": timedelta(hours=1)}), world.browser() as browser:
        await sign_in(browser)
        # Another bridge's clock may be a little behind.
        for minutes, status in ((0, 200), (59, 200), (61, 401), (-0.5, 200), (-2, 401)):
            monkeypatch.setattr("bridge.session._now", lambda m=minutes: true() + 60 * m)
            # A real browser drops the cookie as well; here it is kept, as a thief would.
            value = browser.cookies["holdpoint-session"]
            async with world.browser(cookies={"holdpoint-session": value}) as keeper:
                assert (await keeper.get("/")).status_code == status


async def test_the_key_may_change_and_a_foreign_one_opens_nothing(world: World) -> None:
    async with world.browser() as browser:
        async with world.serving():
            await sign_in(browser)
        async with world.serving(key=NEXT_KEY, previous_key=KEY):
            assert (await browser.get("/")).text.startswith(ANA.mail)
        async with world.serving(key=NEXT_KEY):
            assert (await browser.get("/")).status_code == 401


async def test_an_altered_cookie_and_one_of_another_purpose_are_nothing(world: World) -> None:
    async with world.serving(), world.browser() as browser:
        await browser.get("/sign-in")
        under_way = browser.cookies["holdpoint-sign-in"]
        await sign_in(browser)
        true = browser.cookies["holdpoint-session"]
        flipped = ("B" if true[3] != "B" else "C").join((true[:3], true[4:]))
        for cookie in (under_way, flipped, true[:-1], "", "x" * 9000, ".."):
            async with world.browser(headers={"Cookie": f"holdpoint-session={cookie}"}) as other:
                assert (await other.get("/")).status_code == 401


async def test_what_the_cookie_may_do(world: World) -> None:
    for url, wanted, unwanted in (
        (world.url, {"httponly", "samesite=lax", "path=/"}, {"secure"}),
        ("https://desk.acme.example", {"httponly", "samesite=lax", "path=/", "secure"}, {"domain"}),
    ):
        made = SignIn(world.desk(url=url))
        response = Response()
        made.sessions.begin(response, ANA.mail, ANA.name)
        name, *attributes = response.headers["set-cookie"].casefold().split("; ")
        assert wanted <= set(attributes)
        assert not unwanted & {part.partition("=")[0] for part in attributes}
        assert name.startswith("__host-") == url.startswith("https")
        await made.aclose()


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil",
        "javascript:alert(1)",
        "/%0d%0aX: y\r\n",
        "",
    ],
)
async def test_nobody_is_sent_elsewhere(world: World, elsewhere: str) -> None:
    async with world.serving(), world.browser() as browser:
        answer = await sign_in(browser, onward=elsewhere)
        assert f"{answer.url.scheme}://{answer.url.host}:{answer.url.port}" == world.url
        assert answer.url.path == "/"


@given(st.text(alphabet=st.sampled_from("/\\.:@?#%evil\t\r\n\x00 -"), max_size=20) | st.text(max_size=30))
def test_where_one_goes_on_to_is_ours(path: str) -> None:
    went = urlsplit("https://desk.acme.example" + local(path))
    assert (went.scheme, went.netloc) == ("https", "desk.acme.example")
    assert not went.fragment


def test_a_sign_in_does_not_lead_to_itself() -> None:
    assert [local(path) for path in ("/sign-in?next=/", "/sign-out", "/closed", CASE)] == ["/", "/", "/closed", CASE]


async def test_nothing_secret_gets_into_a_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[str] = []

    async def note(request: httpx.Request) -> None:
        sent.append(str(request.url))

    with caplog.at_level(logging.DEBUG):
        async with world.serving(), world.browser(event_hooks={"request": [note]}) as browser:
            await sign_in(browser)
            secrets = [value for address in sent for value in re.findall(r"(?:code|state)=([\w-]{20,})", address)]
            secrets += [*browser.cookies.values(), world.issuer.client_secret, KEY]
    ours = "\n".join(
        record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    )
    assert f"signed in: {ANA.mail}" in ours
    assert len(secrets) > 4
    assert not [secret for secret in secrets if secret in ours]


@pytest.mark.parametrize("lacking", ["url", "key"])
def test_settings_that_lack_something_are_told(world: World, lacking: str) -> None:
    with pytest.raises(SettingsRefused, match=rf"desk\.{lacking}: is missing"):
        SignIn(world.desk(**{lacking: None}))
