"""A stand-in OpenID provider: discovery, keys, a page where one chooses who one is, tokens, userinfo.

OpenID Connect Core 1.0 and Discovery 1.0, the authorization code flow with PKCE (RFC 7636, S256 only). There are no
passwords: whoever reaches its page signs in as whom they choose. It can be told to answer as it must not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote_plus, urlencode

from joserfc import jwt
from joserfc.jwk import ECKey, KeyParameters, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from lab.faults import Faults

CODE_SECONDS = 60.0
TOKEN_SECONDS = 300
DOCUMENT = "/.well-known/openid-configuration"

Quirk = Literal[
    "wrong_nonce",
    "no_nonce",
    "wrong_audience",
    "second_audience",
    "wrong_azp",
    "azp_alone",
    "wrong_issuer",
    "expired",
    "from_the_future",
    "unsigned",
    "hs256",
    "foreign_key",
    "unpublished_key",
    "altered",
    "wrong_at_hash",
    "unverified",
    "no_mail",
    "two_mails",
    "no_id_token",
]
"""How an ID token can be wrong. ``hs256`` signs with the published key as if it were a shared secret."""


@dataclass(frozen=True)
class LabPerson:
    """Somebody who can sign in."""

    mail: str
    name: str

    @property
    def subject(self) -> str:
        """What the provider knows them by."""
        return hashlib.sha256(self.mail.encode()).hexdigest()[:16]


@dataclass
class _Grant:
    person: LabPerson
    asked: dict[str, str]
    until: float


@dataclass
class IssuerLab:
    """The stand-in. Everything may be changed while it runs.

    Attributes:
        people: who can sign in.
        url: its own address, as it calls itself; set it once it is served.
        client_id: the one client.
        client_secret: the client's secret.
        redirects: where it sends people back to; an address that is not among them is refused.
        algorithm: what it signs with.
        auth_methods: how the client may say who it is.
        thin: whether an ID token leaves mail and name to userinfo.
        quirk: how the next ID tokens are wrong.
        named: whether the answer names the issuer (RFC 9207), and as whom if it is a text.
        signed_in: the mail address of everybody who got a token, in order.
    """

    people: list[LabPerson]
    url: str = "http://127.0.0.1"
    client_id: str = "holdpoint-lab"
    client_secret: str = "lab client: secret/+"
    redirects: set[str] = field(default_factory=set)
    algorithm: Literal["RS256", "ES256"] = "RS256"
    auth_methods: tuple[str, ...] = ("client_secret_basic", "client_secret_post")
    thin: bool = False
    quirk: Quirk | None = None
    named: bool | str = False
    signed_in: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._keys: dict[str, RSAKey | ECKey] = {}
        self._grants: dict[str, _Grant] = {}
        self._tokens: dict[str, LabPerson] = {}
        self.faults = Faults(
            Starlette(
                routes=[
                    Route(DOCUMENT, self._document, methods=["GET"]),
                    Route("/keys", self._published, methods=["GET"]),
                    Route("/authorize", self._authorize, methods=["GET", "POST"]),
                    Route("/token", self._token, methods=["POST"]),
                    Route("/userinfo", self._userinfo, methods=["GET"]),
                ]
            ),
            error_body=b'{"error": "server_error"}',
        )

    @property
    def app(self) -> Faults:
        """The ASGI application, with ``faults`` around it."""
        return self.faults

    def rotate(self) -> None:
        """Sign with new keys from now on, and publish those alone."""
        self._keys.clear()

    def _key(self) -> RSAKey | ECKey:
        if self.algorithm not in self._keys:
            self._keys[self.algorithm] = _new(self.algorithm)
        return self._keys[self.algorithm]

    async def _document(self, _: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "userinfo_endpoint": f"{self.url}/userinfo",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [self.algorithm],
                "token_endpoint_auth_methods_supported": list(self.auth_methods),
                "code_challenge_methods_supported": ["S256"],
                "scopes_supported": ["openid", "email", "profile"],
            }
        )

    async def _published(self, _: Request) -> Response:
        key = self._key().as_dict(private=False, use="sig")
        return JSONResponse({"keys": [{"kty": "LATTICE", "kid": "of a kind not known"}, key]})

    async def _authorize(self, request: Request) -> Response:
        asked = {key: str(value) for key, value in request.query_params.items()}
        if refusal := self._malformed(asked):
            return HTMLResponse(f"<!doctype html><title>Refused</title><p>{html.escape(refusal)}</p>", status_code=400)
        if request.method == "GET":
            return HTMLResponse(self._chooser())
        async with request.form() as form:
            chosen = form.get("who")
        person = next((one for one in self.people if one.mail == chosen), None)
        answer = {"state": asked["state"]} if "state" in asked else {}
        if self.named:
            answer["iss"] = self.named if isinstance(self.named, str) else self.url
        if person is None:
            answer |= {"error": "access_denied", "error_description": "<b>nobody</b> was chosen"}
        else:
            code = secrets.token_urlsafe(24)
            self._grants[code] = _Grant(person, asked, time.monotonic() + CODE_SECONDS)
            answer["code"] = code
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", status_code=303)

    def _malformed(self, asked: Mapping[str, str]) -> str | None:
        if asked.get("client_id") != self.client_id:
            return "this client is not known"
        if asked.get("redirect_uri") not in self.redirects:
            return "this redirect_uri is not registered"
        if asked.get("response_type") != "code" or "openid" not in asked.get("scope", "").split():
            return "only response_type=code with the scope openid is answered"
        if asked.get("code_challenge_method") != "S256" or not asked.get("code_challenge"):
            return "a code_challenge with S256 is wanted"
        return None

    def _chooser(self) -> str:
        rows = "".join(
            f'<p><button name="who" value="{html.escape(one.mail)}">{html.escape(one.name)}'
            f" &lt;{html.escape(one.mail)}&gt;</button></p>"
            for one in self.people
        )
        return (
            '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">'
            "<title>Who are you?</title><h1>Who are you?</h1><p>This stands in for a sign-in page.</p>"
            f'<form method="post">{rows}<p><button name="who" value="">Nobody</button></p></form></html>'
        )

    async def _token(self, request: Request) -> Response:
        async with request.form() as form:
            given = {key: str(value) for key, value in form.items()}
        if not self._is_client(request, given):
            return JSONResponse({"error": "invalid_client"}, status_code=401, headers={"WWW-Authenticate": "Basic"})
        grant = self._grants.pop(given.get("code", ""), None)
        if given.get("grant_type") != "authorization_code" or grant is None or not _fits(grant, given):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        access = secrets.token_urlsafe(24)
        self._tokens[access] = grant.person
        self.signed_in.append(grant.person.mail)
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": TOKEN_SECONDS}
        if self.quirk != "no_id_token":
            answer["id_token"] = self._id_token(grant, access)
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    def _is_client(self, request: Request, given: Mapping[str, str]) -> bool:
        scheme, _, told = request.headers.get("authorization", "").partition(" ")
        if scheme.casefold() == "basic" and "client_secret_basic" in self.auth_methods:
            who, _, secret = base64.b64decode(told).decode().partition(":")
            return (unquote_plus(who), unquote_plus(secret)) == (self.client_id, self.client_secret)
        by_post = "client_secret_post" in self.auth_methods
        return by_post and (given.get("client_id"), given.get("client_secret")) == (self.client_id, self.client_secret)

    async def _userinfo(self, request: Request) -> Response:
        person = self._tokens.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if person is None:
            return JSONResponse({"error": "invalid_token"}, status_code=401)
        return JSONResponse({"sub": person.subject, **self._about(person)})

    def _about(self, person: LabPerson) -> dict[str, Any]:
        told = {"email": person.mail, "email_verified": self.quirk != "unverified", "name": person.name}
        match self.quirk:
            case "no_mail":
                del told["email"]
            case "two_mails":
                told["email"] = f"{person.mail},{person.mail}"
        return told

    def _id_token(self, grant: _Grant, access: str) -> str:
        now = int(time.time())
        digest = hashlib.sha256(access.encode()).digest()
        claims: dict[str, Any] = {
            "iss": self.url,
            "sub": grant.person.subject,
            "aud": self.client_id,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "nonce": grant.asked.get("nonce"),
            "at_hash": _text(digest[: len(digest) // 2]),
            **({} if self.thin else self._about(grant.person)),
        }
        match self.quirk:
            case "wrong_nonce":
                claims["nonce"] = "of another sign-in"
            case "no_nonce":
                del claims["nonce"]
            case "wrong_audience":
                claims["aud"] = "another client"
            case "second_audience":
                claims["aud"] = [self.client_id, "another client"]
            case "wrong_azp":
                claims |= {"aud": [self.client_id, "another client"], "azp": "another client"}
            case "azp_alone":
                claims |= {"aud": "another client", "azp": self.client_id}
            case "wrong_issuer":
                claims["iss"] = "https://elsewhere.example"
            case "expired":
                claims |= {"iat": now - 2 * TOKEN_SECONDS, "exp": now - TOKEN_SECONDS}
            case "from_the_future":
                claims["iat"] = now + TOKEN_SECONDS
            case "wrong_at_hash":
                claims["at_hash"] = _text(bytes(16))
        return self._signed(claims)

    def _signed(self, claims: dict[str, Any]) -> str:
        key = self._key()
        match self.quirk:
            case "unsigned":
                return f"{_part({'alg': 'none'})}.{_part(claims)}."
            case "hs256":
                signed = f"{_part({'alg': 'HS256', 'kid': key.kid})}.{_part(claims)}"
                seal = hmac.digest(key.as_pem(private=False), signed.encode(), "sha256")
                return f"{signed}.{_text(seal)}"
            case "foreign_key":
                return str(jwt.encode({"alg": self.algorithm, "kid": key.kid}, claims, _new(self.algorithm)))
            case "unpublished_key":
                key = _new(self.algorithm)
        token = str(jwt.encode({"alg": self.algorithm, "kid": key.kid}, claims, key))
        if self.quirk == "altered":
            header, _, signature = token.split(".")
            return f"{header}.{_part({**claims, 'email': self.people[-1].mail})}.{signature}"
        return token


def _fits(grant: _Grant, given: Mapping[str, str]) -> bool:
    challenge = _text(hashlib.sha256(given.get("code_verifier", "").encode()).digest())
    same_place = given.get("redirect_uri") == grant.asked["redirect_uri"]
    return same_place and challenge == grant.asked["code_challenge"] and time.monotonic() < grant.until


def _new(algorithm: str) -> RSAKey | ECKey:
    named: KeyParameters = {"kid": secrets.token_hex(4)}
    return RSAKey.generate_key(2048, named) if algorithm == "RS256" else ECKey.generate_key("P-256", named)


def _part(told: Mapping[str, Any]) -> str:
    return _text(json.dumps(told).encode())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
