"""What a person is told about a case: the facts, what each answer would do, and how to answer without a browser.

One description, rendered by every mail (``activities.mail_text``), by the Temporal UI's details and by the terminal.
All strings are plain English for the reader. They may quote untrusted text (host names, account names, an analyst's
reason): whoever renders them quotes for the grammar at hand, see ``incident.text``.
"""

from __future__ import annotations

from incident.evidence import Frozen


class FactLine(Frozen):
    """One fact: known (``value``, with ``source`` and ``at``) or unknown (``reason`` says why).

    A line without a value is unknown, whatever else it holds. ``at`` is the time of the fact, ready to read, in UTC.
    """

    label: str
    value: str | None = None
    reason: str | None = None
    source: str | None = None
    at: str | None = None

    @property
    def known(self) -> bool:
        """Whether there is a value to show."""
        return self.value is not None


class AnswerOption(Frozen):
    """One possible answer: what it would do and to whom, and the commands that give it from a shell.

    ``decision`` is the contract's word (``contain``, ``false_positive``), ``actions`` the actions that it would run,
    ``effect`` a sentence. ``command_update`` and ``command_signal`` are for the ``temporal`` CLI, ``command_starter``
    for ``starter.py``; each is one line. ``button`` is what a link to this answer is called, in a few words.
    """

    decision: str
    actions: tuple[str, ...] = ()
    effect: str
    command_update: str
    command_signal: str
    command_starter: str
    button: str = ""


class MailContext(Frozen):
    """The context of ``incident.requests.Notice``. ``Notice.context`` is this model's ``model_dump(mode="json")``.

    Attributes:
        headline: One plain sentence: what happened.
        case_id: The workflow id.
        question_id: The id of the question that stands, if one does.
        tier: The tier that is written to.
        asked_before: Who was asked before and for how long, one line each.
        due_at: Until when this tier may answer, ready to read, in UTC.
        due_in: How long that is from this mail on, ready to read.
        quorum: How many people, of as many tiers, have to say ``contain``.
        approvers: Who of them said so already, with their tier.
        approvals: When and why they did, one line each.
        on_no_answer: What happens then, a sentence.
        priority: The case's priority now.
        priority_history: How it came to that, one line a change, the oldest first.
        facts: What is known and what is not.
        related: Further alerts and events, one line each.
        options: The possible answers; empty where nothing is asked.
        what_changed: Why this mail was sent after the question (withdrawn, answered, notice), a sentence or a few.
        ui_url: The case in the Temporal Web UI. It shows the case; it decides nothing.
    """

    headline: str
    case_id: str
    question_id: str | None = None
    tier: str | None = None
    asked_before: tuple[str, ...] = ()
    due_at: str | None = None
    due_in: str | None = None
    quorum: int = 1
    approvers: tuple[str, ...] = ()
    approvals: tuple[str, ...] = ()
    on_no_answer: str | None = None
    priority: str
    priority_history: tuple[str, ...] = ()
    facts: tuple[FactLine, ...] = ()
    related: tuple[str, ...] = ()
    options: tuple[AnswerOption, ...] = ()
    what_changed: str | None = None
    ui_url: str | None = None
