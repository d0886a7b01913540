"""What one worker process serves: which task queues, the steps of which integrations, and with whose credentials."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, TypeVar

from pydantic import BaseModel, SecretStr

from connection import TASK_QUEUE
from incident.queues import CASES, Integration, queue_of
from settings import Settings, load_settings, worker_section
from settings_sections import sections_of

_SECTIONS: Final[dict[Integration, tuple[str, ...]]] = {
    Integration.SIEM: ("securonix",),
    Integration.TICKETING: ("ticketing", "record"),
    Integration.MAIL: ("mail", "desk"),
}
"""The sections whose secrets an integration's steps need, where that is not the one of its own name."""

_M = TypeVar("_M", bound=BaseModel)


def served(settings: Settings) -> tuple[Integration, ...]:
    """The integrations that this process works for: all of them, unless ``worker.queues`` names queues."""
    named = settings.worker.queues
    if not named:
        return tuple(Integration)
    own = settings.own_queues()
    return tuple(name for name in Integration if name in named or (CASES in named and name not in own))


def serves_cases(settings: Settings) -> bool:
    """Whether this process works on the main queue: on cases, and on what has no queue of its own."""
    return not settings.worker.queues or CASES in settings.worker.queues


def queue_names(named: Collection[str]) -> list[str]:
    """The task queues that ``worker.queues`` names, as Temporal knows them; the main one where it names none."""
    return [TASK_QUEUE if name == CASES else queue_of(Integration(name), TASK_QUEUE) for name in named or (CASES,)]


def worker_settings() -> Settings:
    """The settings of a worker process: with the secrets of what it serves, and of nothing else.

    Raises:
        SettingsRefused: as ``load_settings``; the secrets of what it does not serve may be missing.
    """
    if not worker_section().queues:
        return load_settings()
    named = load_settings(secrets_needed=False)
    needed = {section for name in served(named) for section in _SECTIONS.get(name, (name.value,))}
    settings = load_settings(secrets_of=needed)
    others = {name for name in Settings.model_fields if name not in needed}
    blank = {name: _blank(section) for name in others if isinstance(section := getattr(settings, name), BaseModel)}
    return settings.model_copy(update=blank)


def _blank(section: _M) -> _M:
    """The section without its secrets: what this process has no use for is not kept in it."""
    update: dict[str, object] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, SecretStr):
            update[name] = SecretStr("") if field.is_required() else None
        elif isinstance(value, BaseModel) and sections_of(field.annotation):
            update[name] = _blank(value)
    return section.model_copy(update=update)
