"""The demo's cases about trust: an admin, a storm, a host that is offline, a flood, and containments to undo."""

from __future__ import annotations

from incident.decision import DecisionName
from incident.triage import ActionName, Priority
from lab.environment import ANALYST, TIERS
from lab.scenarios import DISABLED, SCENARIOS, Reply, Scenario, Way

STORM_LIMIT = 4
"""``guardrails.max_per_hour`` in the storm's settings: two whole containments."""

FREEZER = TIERS[-1].analyst
"""Who turns the freeze switch."""

_PASSWORD_LASTS = 0x10000
_ADMIN = "Server Team"

DOMAIN_ADMIN = Scenario("domain-admin", 13, 93.0, further=True, admin_group=_ADMIN)
OFFLINE = Scenario("offline-host", 14, 85.0, further=True, online=False)
WRONG = Scenario(
    "wrong-decision",
    15,
    76.0,
    further=False,
    uac=512 | _PASSWORD_LASTS,
    undone=True,
    reply=Reply(Way.UPDATE, DecisionName.CONTAIN, "Nobody in the team knows of this transfer."),
)
LEAVER = Scenario("leaver", 16, 71.0, further=True, uac=512 | DISABLED, undone=True)
STORM = tuple(Scenario(f"storm-{n}", 16 + n, 80.0 + n, further=True) for n in range(1, 5))
FLOODED = Scenario(
    "flooded",
    21,
    57.0,
    further=False,
    reply=Reply(Way.UPDATE, DecisionName.CONTAIN, "Somebody copies the share file by file."),
)
URGENT = Scenario("amid-the-flood", 22, 97.0, further=True, severity=Priority.CRITICAL)
"""Its one alert comes in the midst of those about the host that is flooded."""

TRUST = (DOMAIN_ADMIN, OFFLINE, WRONG, LEAVER, *STORM, FLOODED, URGENT)
"""All of them; each is a row of the table that the world makes harder."""

ALL = (*SCENARIOS, *TRUST)
"""The demo's cases."""

APPROVALS = tuple(
    Reply(way, DecisionName.CONTAIN, reason, (ActionName.DISABLE_ACCOUNT,), analyst=tier.analyst)
    for tier, way, reason in (
        (TIERS[0], Way.UPDATE, "He says himself that it was not him."),
        (TIERS[1], Way.STARTER, "Confirmed on the phone."),
    )
)
"""The two that a domain admin's account needs: of two tiers."""

STORM_REPLIES = (
    Reply(Way.UPDATE, DecisionName.CONTAIN, "Not one of the hosts of the nightly copy."),
    Reply(Way.UPDATE, DecisionName.FALSE_POSITIVE, "The nightly copy goes to this host."),
)
"""The answers to what is over the budget, in the order of the scenarios: whoever comes late is asked about."""

RELEASED_BY = ANALYST
RELEASE_REASON = "The transfer was ordered after all; everybody is cleared."
