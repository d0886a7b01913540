"""Writing to people."""

from __future__ import annotations

from collections import OrderedDict

from temporalio import activity

from activities.failures import told_to_temporal
from activities.mail_text import compose
from incident.requests import Delivery, Notice
from integrations.interfaces import Mailer

_REMEMBERED = 1000
"""How many of the mails that it has sent a worker still knows."""


class NotificationActivities:
    """Mails the tiers."""

    def __init__(self, mailer: Mailer, sender_domain: str) -> None:
        self._mailer = mailer
        self._sender_domain = sender_domain
        self._sent: OrderedDict[tuple[str | None, str], Delivery] = OrderedDict()

    @activity.defn(name="notification.notify")
    async def notify(self, notice: Notice) -> Delivery:
        """Send the mail once.

        SMTP has no way to ask whether a mail went out, so the delivery is kept as soon as the server took it: in the
        heartbeat, where an attempt after a crash of the worker finds it, and in the worker, where an attempt after an
        outage of Temporal does. The Message-ID is the same in each attempt.
        """
        info = activity.info()
        step = (info.workflow_run_id, info.activity_id)
        if info.heartbeat_details:
            return Delivery.model_validate(info.heartbeat_details[0])
        if info.attempt > 1 and step in self._sent:
            return self._sent[step]
        with told_to_temporal():
            delivery = await self._mailer.send(compose(notice, sender_domain=self._sender_domain))
        self._remember(step, delivery)
        activity.heartbeat(delivery.model_dump(mode="json"))
        return delivery

    def _remember(self, step: tuple[str | None, str], delivery: Delivery) -> None:
        self._sent[step] = delivery
        if len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)
