"""What opens the case of alerts that waited for another one at their address to close."""

from __future__ import annotations

from incident.alert import Alert
from incident.evidence import Frozen


class OpenNext(Frozen):
    """Alerts of one case id, once the run that kept them has closed."""

    case_id: str
    run_id: str
    alerts: tuple[Alert, ...]
