"""What the bridge says to whoever sends alerts. The OpenAPI document is made from these models."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal

from pydantic import Field
from starlette.responses import JSONResponse

from incident.evidence import Frozen

PROBLEM = "application/problem+json"

Index = Annotated[int, Field(ge=0, description="The alert's place in the request, from 0; blank lines do not count.")]


class Taken(Frozen):
    """Temporal has the alert. ``joined`` tells that a case was open for its host, which it has joined."""

    index: Index
    alert_id: str
    case_id: str
    run_id: str
    joined: bool


class NotTaken(Frozen):
    """The alert was not taken. With ``retry`` it is worth sending again as it is; without, it has to be mended."""

    index: Index
    fault: str
    retry: bool = False


class Answer(Frozen):
    """One line an alert, in the order of the request."""

    alerts: tuple[Taken | NotTaken, ...]


class Problem(Frozen):
    """Why a request as a whole was not taken (RFC 9457). ``alerts`` is there as soon as they were read."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    alerts: tuple[Taken | NotTaken, ...] | None = None


class Health(Frozen):
    """One word, for a load balancer."""

    status: Literal["alive", "ready", "not ready"]


TITLES = {
    400: "Nothing in it is an alert",
    401: "Not authenticated",
    408: "Too slow",
    413: "Too large",
    415: "Not a format that is taken here",
    429: "Too many",
    503: "Not taken just now",
}
"""What is wrong with a request for alerts, by its status."""


def problem(
    status: int,
    detail: str,
    *,
    alerts: tuple[Taken | NotTaken, ...] | None = None,
    retry_after: str | None = None,
) -> JSONResponse:
    """A problem as a response; ``retry_after`` in seconds."""
    headers = {"Retry-After": retry_after} if retry_after else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    told = Problem(title=TITLES.get(status) or HTTPStatus(status).phrase, status=status, detail=detail, alerts=alerts)
    return JSONResponse(
        told.model_dump(mode="json", exclude_none=True), status_code=status, media_type=PROBLEM, headers=headers
    )
