"""The desk over cases that wait for long, and the process that serves it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from datetime import timedelta
from pathlib import Path

import httpx
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from incident.policy import OnUnanswered
from lab.servers import ROOT, free_port
from tests.bridge.house import OIDC, serving
from tests.processes import variables
from tests.workflows.world import ANALYST, Scene, World, alert, policy, working

ANSWER = {"decision": "contain", "reason": "seen it at the proxy", "target": "FIN-LT-042"}


async def test_a_link_follows_its_case_into_another_run(skipping_server: WorkflowEnvironment) -> None:
    client, world = skipping_server.client, World()
    world.sightings = 0
    scene = Scene(client, world, "q-of-long-waits")
    steering = policy(on_unanswered=OnUnanswered.HOLD, recheck_every=timedelta(minutes=10))
    async with working(client, world, scene.queue), serving(client, **OIDC) as desk, desk.browser() as browser:
        started = await scene.start(alert(), steering)
        await scene.until(started, lambda s: s["question"])
        path = await desk.link(started, ANALYST)
        async with asyncio.timeout(60):
            while True:
                first = await scene.handle(started).describe()
                if first.status is WorkflowExecutionStatus.CONTINUED_AS_NEW:
                    break
                await asyncio.sleep(0.2)
        answer = await browser.answer(path, **ANSWER)
        assert answer.status_code == 303
        assert "Your answer was taken" in (await browser.read(path)).text
        result = await client.get_workflow_handle(started.case_id).result()
    assert result["decision"]["analyst"] == ANALYST


def _config(folder: Path, **bridge: object) -> Path:
    web = 'url = "http://127.0.0.1:1"\nusername = "nobody"'
    lines = [
        f"[securonix]\n{web}",
        '[directory]\nservers = ["ldaps://127.0.0.1:1"]\nbind_user = "nobody"\nbase_dn = "DC=corp"',
        '[endpoint.crowdstrike]\nbase_url = "http://127.0.0.1:1"\nclient_id = "nobody"',
        f"[ticketing.servicenow]\n{web}",
        '[mail]\nhost = "127.0.0.1"\nsender = "holdpoint@acme.example"',
        "[bridge]\n" + "\n".join(f"{name} = {json.dumps(value)}" for name, value in bridge.items()),
        f'[[tiers]]\nname = "analyst"\nrecipients = ["{ANALYST}"]\nanalysts = ["{ANALYST}"]\nwait = "15m"',
    ]
    path = folder / "holdpoint.toml"
    path.write_text("\n\n".join(lines), encoding="utf-8")
    return path


def _env(folder: Path, temporal: str, **bridge: object) -> dict[str, str]:
    secrets = {
        f"HOLDPOINT_{name}": "nothing to anybody"
        for name in ("SECURONIX__PASSWORD", "DIRECTORY__PASSWORD", "TICKETING__SERVICENOW__PASSWORD")
    } | {"HOLDPOINT_ENDPOINT__CROWDSTRIKE__CLIENT_SECRET": "nothing to anybody"}
    return variables(folder, HOLDPOINT_CONFIG=str(_config(folder, **bridge)), TEMPORAL_ADDRESS=temporal, **secrets)


async def _bridge(env: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", cwd=ROOT, env=env, stderr=asyncio.subprocess.PIPE
    )


async def test_the_process_serves_and_drains(dev_server: WorkflowEnvironment, tmp_path: Path) -> None:
    port = free_port(0)
    process = await _bridge(_env(tmp_path, dev_server.client.service_client.config.target_host, port=port))
    assert process.stderr
    lines: list[str] = []
    async with asyncio.timeout(60):
        while not any("bridge ready" in line for line in lines):
            line = (await process.stderr.readline()).decode()
            assert line, lines
            lines.append(line)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        page = await client.get("/")
        assert "link in your mail" in page.text
        assert (await client.get("/static/desk.css")).headers["content-type"].startswith("text/css")
        assert (await client.get("/answer/some-secret-token")).status_code == 404
        assert (await client.get("/static/../app.py")).status_code == 404
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        rest = (await process.stderr.read()).decode()
        assert await process.wait() == 0
    told = "".join(lines) + rest
    assert "some-secret-token" not in told
    assert "draining" in told
    assert all(json.loads(line) for line in told.splitlines())


async def test_the_process_says_why_it_cannot(dev_server: WorkflowEnvironment, tmp_path: Path) -> None:
    address = dev_server.client.service_client.config.target_host
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    missing = str(tmp_path / "none.pem")
    for temporal, bridge, code, words in (
        ("127.0.0.1:1", {}, 1, "no Temporal server answers"),
        (address, {"port": port}, 1, "cannot listen"),
        (address, {"certificate": missing, "private_key": missing}, 2, "bridge.certificate"),
        (address, {"host": "0.0.0.0"}, 2, "bridge"),
    ):
        process = await _bridge(_env(tmp_path, temporal, **bridge))
        async with asyncio.timeout(60):
            _, err = await process.communicate()
        assert (process.returncode, words in err.decode()) == (code, True), err.decode()
        assert "Traceback" not in err.decode()
    taken.close()
    await taken.wait_closed()
