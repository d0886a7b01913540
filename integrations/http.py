"""One HTTP exchange with a vendor, with everything that can go wrong named by ``integrations.errors``.

Knows no vendor. A client keeps one ``VendorHttp`` for its life: a new TLS context a call costs thirty times the call.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from integrations import tracing
from integrations.errors import BadAnswer, Busy, Misconfigured, NotFound, Refused, Rejected, Unreachable
from integrations.interfaces import Check

TOTAL_SECONDS = 15.0
"""How long one exchange may take in all, however slowly the bytes drip."""

MAX_BYTES = 16 * 1024 * 1024
"""The largest answer that is read."""

MAX_RETRY_AFTER = timedelta(minutes=5)
"""A vendor's wish to wait is obeyed up to this; more than that would outlast every budget."""

MAX_CLOCK_SKEW = timedelta(seconds=60)
"""How far a vendor's clock may be off before the doctor says so."""

MAX_QUOTED = 300
"""How many characters of a vendor's own words a message repeats."""

_JSON_ERRORS = (ValueError, RecursionError)
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_LATER = (408, 425, 429)


def quoted(words: object, *, secrets: Iterable[str] = ()) -> str:
    """A vendor's words, fit for a message: one printable line, at most ``MAX_QUOTED`` characters, no secret in it."""
    text = words if isinstance(words, str) else ""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    line = _UNPRINTABLE.sub(" ", text).strip()
    return line if len(line) <= MAX_QUOTED else line[: MAX_QUOTED - 1] + "…"


def _http_date(value: str) -> datetime:
    """Raises ValueError. A date that names no zone means UTC, as HTTP's dates do."""
    at = parsedate_to_datetime(value)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


class Answer:
    """A vendor's answer, read whole."""

    def __init__(self, vendor: str, status: int, headers: httpx.Headers, body: bytes) -> None:
        self.vendor = vendor
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        """The body as UTF-8, without a byte order mark; anything else is replaced."""
        return self.body.decode("utf-8-sig", "replace")

    @property
    def is_html(self) -> bool:
        """Whether a page came instead of data: a login page, a proxy's error, a hibernating instance."""
        return self.text.lstrip()[:200].lower().startswith(("<!doctype html", "<html", "<head", "<body"))

    def json(self) -> Any:
        """The body as JSON, told by its content and never by its label.

        Raises:
            BadAnswer: for HTML, an empty body or one cut short.
        """
        if self.is_html:
            raise BadAnswer(f"{self.vendor} answered {self.status} with a web page instead of data")
        if not self.body.strip():
            raise BadAnswer(f"{self.vendor} answered {self.status} with an empty body")
        try:
            return json.loads(self.text)
        except _JSON_ERRORS:
            raise BadAnswer(f"{self.vendor} answered {self.status} with JSON that ends early or is broken") from None

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises BadAnswer for anything else."""
        value = self.json()
        if not isinstance(value, dict):
            raise BadAnswer(f"{self.vendor} answered {self.status} with {type(value).__name__} instead of an object")
        return value

    def retry_after(self) -> timedelta | None:
        """``Retry-After`` in seconds or as a date, clamped; ``None`` if it is absent or unreadable."""
        value = self.headers.get("Retry-After", "").strip()
        if not value:
            return None
        if _SECONDS.fullmatch(value):
            return timedelta(seconds=min(float(value), MAX_RETRY_AFTER.total_seconds()))
        try:
            wish = _http_date(value) - datetime.now(UTC)
        except (ValueError, OverflowError):
            return None
        return max(timedelta(0), min(wish, MAX_RETRY_AFTER))

    def clock_skew(self, now: datetime) -> timedelta | None:
        """How far the vendor's clock is ahead of ``now``, by its ``Date`` header; to the second."""
        try:
            return _http_date(self.headers["Date"]) - now
        except (KeyError, ValueError, OverflowError):
            return None

    def raise_for_status(self, *, retry_after: timedelta | None = None, words: str = "") -> None:
        """Raise what the status means to every vendor; a client handles its own exceptions to it before.

        Args:
            retry_after: the vendor's wish, where it tells it elsewhere than in ``Retry-After``.
            words: what the vendor says about it, already ``quoted``.

        Raises:
            Busy: 408, 425, 429 and 5xx. Refused: 403. Misconfigured: 401 and redirects. NotFound: 404.
            Rejected: other 4xx.
        """
        where = f"{self.vendor} answered {self.status}"
        said = f" ({words})" if words else ""
        if self.status < 300:
            return
        if self.status in _LATER or self.status >= 500:
            raise Busy(f"{where}{said}", retry_after=self.retry_after() if retry_after is None else retry_after)
        if self.status == 401:
            raise Misconfigured(f"{where}: it does not accept the credentials{said}")
        if self.status == 403:
            raise Refused(f"{where}: the account lacks the right{said}")
        if self.status == 404:
            raise NotFound(f"{where}: there is no such thing{said}")
        if self.status < 400:
            raise Misconfigured(f"{where}: it points elsewhere; check the address in the settings{said}")
        raise Rejected(f"{where}{said}")


def clock_check(answer: Answer) -> Check:
    """The doctor's line about the vendor's clock, as its answer tells it."""
    name = f"{answer.vendor}: clock"
    skew = answer.clock_skew(datetime.now(UTC))
    if skew is None:
        return Check(name=name, ok=True, detail="not checked: the answer has no date")
    seconds = round(skew.total_seconds())
    return Check(name=name, ok=abs(skew) <= MAX_CLOCK_SKEW, detail=f"the vendor's clock is {seconds:+d} s from ours")


@contextmanager
def _told_apart(vendor: str) -> Iterator[None]:
    """Name what the transport raises. Their messages may carry addresses, never headers or bodies."""
    try:
        yield
    except TimeoutError:
        raise Unreachable(f"{vendor} did not answer in time") from None
    except httpx.TimeoutException as error:
        raise Unreachable(f"{vendor} did not answer in time ({type(error).__name__})") from None
    except httpx.ConnectError as error:
        if _certificate_failed(error):
            raise Misconfigured(f"{vendor}: the server's certificate is not trusted: {error}") from None
        raise Unreachable(f"{vendor} cannot be reached: {quoted(str(error))}") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Misconfigured(f"{vendor}: the address is not usable: {quoted(str(error))}") from None
    except httpx.LocalProtocolError:
        # Its message repeats the header at fault, which may be the one with the credentials.
        raise Misconfigured(f"{vendor}: the request cannot be written as HTTP; check the credentials") from None
    except httpx.TransportError as error:
        raise Unreachable(f"{vendor} broke off ({type(error).__name__}): {quoted(str(error))}") from None
    except httpx.DecodingError as error:
        raise BadAnswer(f"{vendor}: {type(error).__name__}: {quoted(str(error))}") from None
    except UnicodeEncodeError:
        raise Rejected(f"{vendor}: the request holds characters that cannot be sent") from None


def _certificate_failed(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


class VendorHttp:
    """A kept-alive HTTP client to one vendor. Redirects are not followed: they would carry credentials elsewhere.

    Args:
        vendor: its name, as messages spell it.
        base_url: the address that every path is appended to.
        ca_file: PEM bundle to trust instead of the system's.
        total_seconds: how long one exchange may take in all.
        transport: for tests.

    Raises:
        Misconfigured: ``ca_file`` cannot be read, or ``base_url`` is not an address.
    """

    def __init__(
        self,
        vendor: str,
        base_url: str,
        *,
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.vendor = vendor
        self._total = total_seconds
        try:
            context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Misconfigured(f"{vendor}: ca_file cannot be read as PEM certificates: {reason}") from None
        with _told_apart(vendor):
            self._client = httpx.AsyncClient(
                base_url=base_url,
                verify=context,
                transport=transport,
                timeout=httpx.Timeout(total_seconds, connect=min(5.0, total_seconds)),
                follow_redirects=False,
                trust_env=False,
                headers={"Accept": "*/*", "User-Agent": "holdpoint"},
            )

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> Answer:
        """One request, its answer read whole whatever its status.

        ``content`` is a body as it is; ``files`` are sent as multipart/form-data, each a name, its bytes and its type.

        Raises:
            Unreachable: no whole answer came; the request may have had its effect.
            Misconfigured: the server's certificate is not trusted, or the address or a header cannot be used.
            BadAnswer: the answer is larger than ``MAX_BYTES`` or cannot be decoded.
            Rejected: the request holds characters that cannot be sent (lone surrogates).
        """
        address = self._client.base_url
        with tracing.exchange(f"HTTP {method}", self.vendor, address.host, address.port) as exchange:
            with _told_apart(self.vendor):
                async with asyncio.timeout(self._total):
                    request = self._client.build_request(
                        method, path, params=params, headers=headers, json=json, data=form, content=content, files=files
                    )
                    basic = httpx.BasicAuth(*auth) if auth else None
                    response = await self._client.send(request, auth=basic, stream=True)
                    try:
                        body = await self._read(response)
                    finally:
                        await response.aclose()
            status = response.status_code
            exchange.answered("http.response.status_code", status, failed=status >= 400)
        return Answer(self.vendor, status, response.headers, body)

    async def _read(self, response: httpx.Response) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > MAX_BYTES:
                raise BadAnswer(f"{self.vendor} sent more than {MAX_BYTES // 1024 // 1024} MiB")
            chunks.append(chunk)
        return b"".join(chunks)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
