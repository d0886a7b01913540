"""The examples of ``docs/alerts.md``, run by the shell as they stand there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.answers import TITLES
from tests.bridge.sending import KEY, TOKEN, Cases, bridge

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "openssl"))), reason="the examples want bash, curl and openssl"
)


@pytest.mark.parametrize(
    ("example", "alert_id"), list(zip(EXAMPLES, ["SNX-200417", "SNX-200418", "Guard-4711"], strict=True))
)
async def test_an_example_is_taken(example: str, alert_id: str) -> None:
    async with bridge(Cases()) as sender:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", example),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "BRIDGE": sender.url,
                "HOLDPOINT_BRIDGE__TOKEN": TOKEN,
                "HOLDPOINT_BRIDGE__HMAC_KEY": KEY,
            },
        )
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    (line,) = json.loads(out)["alerts"]
    assert (line["alert_id"], line["case_id"], line["joined"]) == (alert_id, "sua-acme-10.20.30.40", False)


def test_every_status_is_told() -> None:
    table = PAGE.partition("## What is answered")[2].partition("\n## ")[0]
    assert {int(status) for status in re.findall(r"\b([245]\d\d)\b", table)} == {202, 207, *TITLES}
