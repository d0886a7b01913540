"""Writing to people."""

from __future__ import annotations

from temporalio import activity

from activities.failures import told_to_temporal
from activities.mail_text import compose
from incident.requests import Delivery, Notice
from integrations.interfaces import Mailer


class NotificationActivities:
    """Mails the tiers."""

    def __init__(self, mailer: Mailer, sender_domain: str) -> None:
        self._mailer = mailer
        self._sender_domain = sender_domain

    @activity.defn(name="notification.notify")
    async def notify(self, notice: Notice) -> Delivery:
        """Send the mail once.

        SMTP has no way to ask whether a mail went out, so the delivery is kept in the heartbeat as soon as the server
        took it: an attempt after a crash finds it there. The Message-ID is the same in each attempt.
        """
        details = activity.info().heartbeat_details
        if details:
            return Delivery.model_validate(details[0])
        with told_to_temporal():
            delivery = await self._mailer.send(compose(notice, sender_domain=self._sender_domain))
        activity.heartbeat(delivery.model_dump(mode="json"))
        return delivery
