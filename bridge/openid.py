"""The OpenID provider: where people are sent to sign in, and who it says that they are.

OpenID Connect Core 1.0 (the authorization code flow, section 3.1; what of an ID token is checked, 3.1.3.7), Discovery
1.0, PKCE (RFC 7636, S256). Authlib knows the protocol, joserfc the signatures; the exchanges are ``VendorHttp``'s, with
its limits of time and size. No code, token or secret gets into a message or a log.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import quote_plus, urlsplit

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc.errors import InvalidKeyIdError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, Key, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.jwt import Token, decode
from pydantic import ConfigDict, ValidationError

from incident.evidence import Frozen
from incident.text import plain
from integrations.errors import BadAnswer, Misconfigured
from integrations.http import Answer, VendorHttp
from settings_bridge import OidcSettings

PROVIDER = "the sign-in service"
SCOPE = "openid email profile"
SECONDS = 8.0
"""How long one exchange with the provider may take: a person waits."""

KEPT_SECONDS = 3600.0
"""For how long its metadata and keys are kept; an unknown key is looked up at once."""

LEEWAY_SECONDS = 60
"""How far its clock may be off."""

_KINDS: dict[str, type[RSAKey] | type[ECKey]] = {"RSA": RSAKey, "EC": ECKey}
_ALGORITHMS = {"RS256": RSAKey, "ES256": ECKey}
"""What an ID token may be signed with: public keys only, so that no key that is published can make one."""

_SIGNATURES = JWSRegistry(algorithms=list(_ALGORITHMS), strict_check_header=False)
_SIGNATURES.max_header_length = 8192  # some providers put a certificate chain there
_BASIC, _POST = "client_secret_basic", "client_secret_post"


class NotProven(Exception):
    """What the provider or the browser brought does not prove who somebody is. The message is for a log."""


class NotAdmitted(Exception):
    """The provider knows who it is, and that is not enough here. The message is for whoever signs in."""


class Flow(Frozen):
    """One sign-in under way: what its answer is held against, and the page of ours (a path) that it goes on to."""

    state: str
    nonce: str
    verifier: str
    onward: str


class Identified(Frozen):
    """Who signed in: ``analyst`` is a mail address, ``name`` what to call them (untrusted)."""

    analyst: str
    name: str


class _Provider(Frozen):
    """What the provider says of itself (Discovery 1.0, section 3)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = (_BASIC,)


def new_flow(onward: str) -> Flow:
    """Begin a sign-in. The verifier has the length that RFC 7636 (4.1) asks for."""
    return Flow(
        state=secrets.token_urlsafe(24),
        nonce=secrets.token_urlsafe(24),
        verifier=secrets.token_urlsafe(48),
        onward=onward,
    )


class OpenId:
    """The provider that the settings name, reached when somebody signs in and not before.

    ``redirect`` is the address of ours that it sends people back to. Every method raises ``IntegrationError`` (of the
    kinds that ``VendorHttp`` raises) when the provider is not there or answers nonsense.
    """

    def __init__(self, settings: OidcSettings, redirect: str) -> None:
        self._settings = settings
        self._redirect = redirect
        self._http = VendorHttp(PROVIDER, settings.issuer, ca_file=settings.ca_file, total_seconds=SECONDS)
        self._provider: tuple[float, _Provider] | None = None
        self._keys: tuple[float, list[Key]] | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def address(self, flow: Flow) -> str:
        """Where the browser goes to sign in."""
        provider = await self._discovered()
        address = prepare_grant_uri(
            provider.authorization_endpoint,
            client_id=self._settings.client_id,
            response_type="code",
            redirect_uri=self._redirect,
            scope=SCOPE,
            state=flow.state,
            nonce=flow.nonce,
            code_challenge=create_s256_code_challenge(flow.verifier),
            code_challenge_method="S256",
        )
        return cast(str, address)

    async def identify(self, code: str, flow: Flow, *, issuer: str | None) -> Identified:
        """Who came back with ``code``. ``issuer`` is who the answer says that it is from (RFC 9207), if it does.

        Raises:
            NotProven: it proves nothing.
            NotAdmitted: it is somebody without a mail address that can be relied on.
        """
        provider = await self._discovered()
        if issuer is not None and issuer != provider.issuer:
            raise NotProven("the answer is from another issuer")
        tokens = await self._redeem(provider, code, flow)
        claims = await self._proven(provider, tokens, flow)
        if not claims.get(self._settings.mail_claim) and provider.userinfo_endpoint:
            claims = {**claims, **await self._userinfo(provider.userinfo_endpoint, tokens, claims["sub"])}
        return self._admitted(claims)

    async def _discovered(self) -> _Provider:
        now = time.monotonic()
        if self._provider is None or now - self._provider[0] > KEPT_SECONDS:
            path = f"{self._settings.issuer}/.well-known/openid-configuration"
            told = _good(await self._http.send("GET", path)).json_object()
            self._provider = now, self._checked(told)
        return self._provider[1]

    def _checked(self, told: dict[str, Any]) -> _Provider:
        try:
            provider = _Provider.model_validate(told)
        except ValidationError as error:
            faults = ", ".join(sorted({str(fault["loc"][0]) for fault in error.errors() if fault["loc"]}))
            raise BadAnswer(f"{PROVIDER} describes itself without a usable {faults}") from None
        # An issuer's name may end with a slash; the settings' address never does.
        if provider.issuer.rstrip("/") != self._settings.issuer:
            raise Misconfigured(f"{PROVIDER} calls itself {plain(provider.issuer)}: set desk.oidc.issuer to that")
        addresses = (provider.authorization_endpoint, provider.token_endpoint, provider.jwks_uri)
        for address in (*addresses, *filter(None, (provider.userinfo_endpoint,))):
            if not self._safe(address):
                raise BadAnswer(f"{PROVIDER} names an address that is not https: {plain(address, limit=100)}")
        return provider

    def _safe(self, address: str) -> bool:
        """Encrypted, or on this machine as the issuer itself is."""
        issuer = urlsplit(self._settings.issuer)
        try:
            parts = urlsplit(address)
            return bool(parts.hostname) and (
                parts.scheme == "https" or (parts.scheme, parts.hostname) == (issuer.scheme, issuer.hostname)
            )
        except ValueError:
            return False

    async def _redeem(self, provider: _Provider, code: str, flow: Flow) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "code_verifier": flow.verifier,
        }
        client, secret = self._settings.client_id, self._settings.client_secret.get_secret_value()
        methods = provider.token_endpoint_auth_methods_supported
        auth = None
        if _POST in methods and _BASIC not in methods:
            form |= {"client_id": client, "client_secret": secret}
        else:
            auth = (quote_plus(client), quote_plus(secret))  # RFC 6749, section 2.3.1
        answer = await self._http.send("POST", provider.token_endpoint, form=form, auth=auth)
        if answer.status == 400:
            raise NotProven(f"the code was not taken{_error_of(answer)}")
        return _good(answer).json_object()

    async def _proven(self, provider: _Provider, tokens: dict[str, Any], flow: Flow) -> dict[str, Any]:
        """The claims of an ID token that is signed, and made for us and for this sign-in."""
        raw = tokens.get("id_token")
        if not isinstance(raw, str):
            raise BadAnswer(f"{PROVIDER} gave no ID token")
        try:
            token = await self._verified(provider, raw)
            claims = CodeIDToken(
                token.claims,
                token.header,
                {
                    "iss": {"essential": True, "value": provider.issuer},
                    "aud": {"essential": True, "value": self._settings.client_id},
                },
                {"nonce": flow.nonce, "client_id": self._settings.client_id, **_access_token(tokens)},
            )
            claims.validate(leeway=LEEWAY_SECONDS)
        except JoseError as error:
            # The class alone: a message may repeat what was sent.
            raise NotProven(f"the ID token does not hold: {type(error).__name__}{_claim_of(error)}") from None
        except (ValueError, TypeError, KeyError) as error:
            raise NotProven(f"the ID token cannot be read: {type(error).__name__}") from None
        return dict(claims)

    async def _verified(self, provider: _Provider, raw: str) -> Token:
        keys = await self._published(provider)
        try:
            return _decoded(raw, keys)
        except InvalidKeyIdError:
            # The provider has a new key since we looked. Only its own token leads here, and once.
            return _decoded(raw, await self._published(provider, anew=True))

    async def _published(self, provider: _Provider, *, anew: bool = False) -> list[Key]:
        now = time.monotonic()
        if anew or self._keys is None or now - self._keys[0] > KEPT_SECONDS:
            told = _good(await self._http.send("GET", provider.jwks_uri)).json_object().get("keys")
            if not isinstance(told, list):
                raise BadAnswer(f"{PROVIDER} publishes no keys")
            self._keys = now, list(_usable(told))
        return self._keys[1]

    async def _userinfo(self, address: str, tokens: dict[str, Any], subject: object) -> dict[str, Any]:
        """Claims that an ID token need not repeat (Core 1.0, 5.3 and 5.4), of the same subject or of nobody."""
        headers = {"Authorization": f"Bearer {_access_token(tokens).get('access_token', '')}"}
        told = _good(await self._http.send("GET", address, headers=headers)).json_object()
        if told.get("sub") != subject:
            raise NotProven("the userinfo is about somebody else")
        wanted = (self._settings.mail_claim, "email_verified", "name")
        return {claim: told[claim] for claim in wanted if claim in told}

    def _admitted(self, claims: dict[str, Any]) -> Identified:
        wanted = self._settings.mail_claim
        mail = claims.get(wanted)
        if not isinstance(mail, str) or mail.count("@") != 1 or plain(mail) != mail:
            raise NotAdmitted(
                f"The sign-in service tells no mail address of yours (it would stand in {plain(wanted)!r})."
            )
        if claims.get("email_verified", True) not in (True, "true"):
            raise NotAdmitted("The sign-in service has not verified your mail address.")
        name = claims.get("name")
        return Identified(analyst=mail, name=plain(name, limit=80) if isinstance(name, str) and name.strip() else mail)


def _good(answer: Answer) -> Answer:
    answer.raise_for_status()
    return answer


def _error_of(answer: Answer) -> str:
    """The error's code (RFC 6749, 5.2), if it is a word."""
    try:
        error = answer.json_object().get("error")
    except BadAnswer:
        return ""
    return f" ({error})" if isinstance(error, str) and error.isascii() and error.replace("_", "").isalpha() else ""


def _claim_of(error: JoseError) -> str:
    claim = getattr(error, "claim", None)
    return f" ({plain(claim, limit=20)})" if isinstance(claim, str) else ""


def _access_token(tokens: dict[str, Any]) -> dict[str, str]:
    token = tokens.get("access_token")
    return {"access_token": token} if isinstance(token, str) and token.isascii() and token.isprintable() else {}


def _usable(told: Sequence[Any]) -> list[Key]:
    """The keys that can verify a signature; a provider may publish others beside them."""
    keys: list[Key] = []
    for one in told:
        if isinstance(one, dict) and one.get("kty") in _KINDS and one.get("use", "sig") == "sig":
            try:
                keys.append(_KINDS[one["kty"]].import_key(one))
            except (JoseError, ValueError, TypeError, KeyError):
                continue
    return keys


def _decoded(raw: str, keys: Sequence[Key]) -> Token:
    """The token, if one of the keys has signed it. Raises InvalidKeyIdError when none has the name that it wants."""
    failure: JoseError = InvalidKeyIdError()
    for key in keys:
        try:
            return decode(raw, lambda signed, key=key: _fitting(signed, key), registry=_SIGNATURES)  # type: ignore[misc]
        except InvalidKeyIdError:
            continue
        except JoseError as error:
            failure = error
    raise failure


def _fitting(signed: Any, key: Key) -> Key:
    """The key, if it may have signed this: of the algorithm's kind, and of the name that the token gives, if any."""
    header = signed.headers()
    kind = _ALGORITHMS.get(str(header.get("alg")))
    if kind is None:
        raise UnsupportedAlgorithmError
    if not isinstance(key, kind) or header.get("kid", key.kid) != key.kid:
        raise InvalidKeyIdError
    return key
