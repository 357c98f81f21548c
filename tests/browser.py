"""A headless Chromium with a page in it, by the DevTools protocol."""

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess

from tornado.websocket import websocket_connect

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--remote-debugging-port=0",
    "--window-size=1100,900",
)  # fmt: skip


def find():
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """What the browser shows of a file. `requests` are the addresses it asked for."""

    def __init__(self, socket):
        self.socket, self.number, self.requests, self.errors = socket, 0, [], []

    async def call(self, method, **parameters):
        self.number += 1
        await self.socket.write_message(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await self.socket.read_message())
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"][:80])
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(message["params"]["exceptionDetails"])
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]

    async def run(self, script):
        """The value of a line of JavaScript."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return result["result"].get("value")

    async def until(self, script, seconds=60):
        """Wait until a line of JavaScript is true."""
        for _ in range(seconds * 5):
            if value := await self.run(script):
                return value
            await asyncio.sleep(0.2)
        raise AssertionError(f"never true: {script}")

    async def mouse(self, kind, x, y, **more):
        await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    async def screenshot(self, path):
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


def visit(file, profile, script):
    """Open `file` in a browser of its own, and do `script(page)`, a coroutine; returns what it does."""
    return asyncio.run(_visit(file, profile, script))


async def _visit(file, profile, script):
    command = [find(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"HOME": str(profile)})
    try:
        for line in browser.stderr:
            if found := re.search(r"DevTools listening on ws://(\S+?)/", line):
                break
        targets = subprocess.run(["curl", "-s", f"http://{found[1]}/json"], capture_output=True, text=True, check=True)
        (target,) = [target for target in json.loads(targets.stdout) if target["type"] == "page"]
        page = Page(await websocket_connect(target["webSocketDebuggerUrl"], max_message_size=1 << 28))
        for domain in ("Page", "Network", "Runtime"):
            await page.call(f"{domain}.enable")
        await page.call("Page.navigate", url=file.absolute().as_uri())
        return await script(page)
    finally:
        browser.kill()
        browser.wait()
