"""Writing to people."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from temporalio import activity

from activities.answer_links import LinkMaker
from activities.failures import told_to_temporal
from activities.mail_text import Addressed, compose, message_id
from incident.requests import Delivery, Notice
from integrations.errors import Busy, IntegrationError, Rejected
from integrations.interfaces import Mail, Mailer

_REMEMBERED = 1000
"""How many of the mails that it has sent a worker still knows."""

_TOLD = 5
"""Of so many recipients that nobody could be mailed a failure tells the words."""

_Step = tuple[str | None, str]


class NotificationActivities:
    """Mails the tiers. With a desk each recipient gets a mail of their own, with their own link in it."""

    def __init__(self, mailer: Mailer, sender_domain: str, desk: LinkMaker | None = None) -> None:
        self._mailer = mailer
        self._sender_domain = sender_domain
        self._desk = desk
        self._sent: OrderedDict[_Step, Delivery] = OrderedDict()

    @activity.defn(name="notification.notify")
    async def notify(self, notice: Notice) -> Delivery:
        """Send the mail once to each recipient.

        SMTP has no way to ask whether a mail went out, so the delivery is kept as soon as the server took it: in the
        heartbeat, where an attempt after a crash of the worker finds it, and in the worker, where an attempt after an
        outage of Temporal does. The Message-ID is the same in each attempt.

        Whoever the server puts off while others have theirs is in ``Delivery.deferred``: the others need not wait.
        """
        info = activity.info()
        step = (info.workflow_run_id, info.activity_id)
        done = self._so_far(step, notice)
        with told_to_temporal():
            trouble: dict[str, IntegrationError] = {}
            for mail in self._mails(notice, done):
                # What ails the whole server ails the next mail too: a wrong password, tried once a recipient, would
                # lock the account.
                stop = next((error for error in trouble.values() if not isinstance(error, Busy | Rejected)), None)
                answer = stop or await self._answer(mail)
                if isinstance(answer, IntegrationError):
                    trouble |= dict.fromkeys(mail.recipients, answer)
                else:
                    done = _together(done, answer)
                    self._keep(step, done)
            return _settled(done, trouble)

    async def _answer(self, mail: Mail) -> Delivery | IntegrationError:
        try:
            return await self._mailer.send(mail)
        except IntegrationError as error:
            return error

    def _mails(self, notice: Notice, done: Delivery) -> Iterator[Mail]:
        """What is still to be sent."""
        known = {*done.accepted, *done.refused}
        left = tuple(address for address in dict.fromkeys(notice.recipients) if address not in known)
        if self._desk is None:
            if left or not known:
                # All of them in one mail.
                yield compose(notice.model_copy(update={"recipients": left}), sender_domain=self._sender_domain)
            return
        for recipient in left:
            page = self._desk.case_page(str(notice.context.get("case_id", "")))
            link = self._desk.answer(notice.link, recipient)
            yield compose(
                notice, sender_domain=self._sender_domain, to=Addressed(recipient, case_page=page, answer=link)
            )

    def _so_far(self, step: _Step, notice: Notice) -> Delivery:
        """What earlier attempts of this step delivered."""
        info = activity.info()
        done = Delivery(message_id=message_id(notice.key, self._sender_domain), accepted=(), refused={})
        if info.heartbeat_details:
            done = _together(done, Delivery.model_validate(info.heartbeat_details[0]))
        if info.attempt > 1 and step in self._sent:
            done = _together(done, self._sent[step])
        return done

    def _keep(self, step: _Step, delivery: Delivery) -> None:
        self._sent[step] = delivery
        if len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)
        activity.heartbeat(delivery.model_dump(mode="json"))


def _together(done: Delivery, more: Delivery) -> Delivery:
    accepted = tuple(dict.fromkeys((*done.accepted, *more.accepted)))
    return done.model_copy(update={"accepted": accepted, "refused": {**done.refused, **more.refused}})


def _settled(done: Delivery, trouble: dict[str, IntegrationError]) -> Delivery:
    """The delivery as a whole: who has the mail, who never gets it, and who has to be tried again.

    Raises:
        IntegrationError: nobody has it, and nobody else's trouble is another than that.
    """
    later = {who: str(error) for who, error in trouble.items() if error.retryable}
    refused = {who: str(error) for who, error in trouble.items() if not error.retryable}
    whole = done.model_copy(update={"refused": {**done.refused, **refused}, "deferred": later})
    if trouble and not whole.accepted and not (later and whole.refused):
        raise _of_all(list(trouble.values()))
    return whole


def _of_all(errors: list[IntegrationError]) -> IntegrationError:
    """One error for all recipients: the server's own trouble, if it had any, and else each one's words."""
    told = list(dict.fromkeys(str(error) for error in errors))
    worst = next((error for error in errors if not isinstance(error, Busy | Rejected)), errors[0])
    return worst if len(told) == 1 else type(worst)("; ".join(told[:_TOLD]), retry_after=worst.retry_after)
