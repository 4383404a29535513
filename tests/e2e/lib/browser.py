# SPDX-License-Identifier: ISC
"""A headless Chromium, driven by the WebDriver protocol (W3C) that chromedriver speaks.

What it says of itself is kept: its console, which has violations of policies too, and every
request that it made or wanted to make.
"""

import base64
import http.client
import json
import shutil
import urllib.parse

from lib.process import Process, free_port
from lib.wait import until

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser(Process):
    def __init__(self, directory, *arguments):
        super().__init__("chromedriver", directory)
        self.port = free_port()
        self.session = None
        self.kept = {"browser": [], "performance": []}
        home = directory / "browser"
        home.mkdir(exist_ok=True)
        self.spawn([shutil.which("chromedriver"), f"--port={self.port}"], {"HOME": str(home)})
        self.wait_accepting(("127.0.0.1", self.port))
        self.session = self.ask("POST", "", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "goog:chromeOptions": {"args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--no-first-run", "--disable-background-networking", "--disable-sync",
                "--disable-component-update", "--no-proxy-server", "--lang=en-US",
                f"--user-data-dir={home}", *arguments]}}}})["sessionId"]

    # --- the protocol ---

    def ask(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        base = "/session" if self.session is None else f"/session/{self.session}"
        c.request(method, base + path, None if body is None else json.dumps(body),
                  {"Content-Type": "application/json"})
        answer = c.getresponse()
        value = json.loads(answer.read())["value"]
        c.close()
        assert answer.status == 200, value
        return value

    def cdp(self, command, **parameters):
        """One command of Chromium's own protocol."""
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def close(self):
        if self.session is not None and self.running():
            self.ask("DELETE", "")
        self.stop()

    # --- what a user does ---

    def open(self, url):
        self.ask("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """The value of a function body in the page; elements are not passed."""
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector):
        return self.ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        # Its own scrolling leaves what it looks for below the bar at the top.
        self.run("document.querySelector(arguments[0]).scrollIntoView("
                 "{block: 'center', behavior: 'instant'})", selector)
        self.ask("POST", f"/element/{self.find(selector)}/click", {})

    def type(self, selector, text):
        self.ask("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def press(self, key):
        """A key for whatever has the focus."""
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": [
            {"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]}]})

    def text(self, selector):
        """What is shown of an element, "" when it is hidden."""
        return self.run("const e = document.querySelector(arguments[0]);"
                        "return e.checkVisibility() ? e.innerText : ''", selector)

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])]"
                        ".map(e => e.innerText)", selector)

    def values(self, selector):
        """The numbers behind <data> elements."""
        return self.run("return [...document.querySelectorAll(arguments[0])]"
                        ".map(e => e.value)", selector)

    def until(self, what, script, *arguments, timeout=20):
        return until(what, lambda: self.run(script, *arguments), timeout, 0.05)

    # --- how it looks ---

    def size(self, width, height, is_phone=False):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=2 if is_phone else 1, mobile=is_phone)

    def media(self, **features):
        """media(prefers_color_scheme="dark")"""
        self.cdp("Emulation.setEmulatedMedia", features=[
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()])

    def picture(self, path):
        """The whole page as a PNG."""
        size = self.cdp("Page.getLayoutMetrics")["cssContentSize"]
        got = self.cdp("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                       clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"],
                             "scale": 1})
        path.write_bytes(base64.b64decode(got["data"]))
        return path

    # --- what it says of itself ---

    def logged(self, kind):
        """All lines since the start; the protocol gives each once."""
        self.kept[kind] += self.ask("POST", "/se/log", {"type": kind})
        return self.kept[kind]

    def complaints(self):
        """What the console has: errors of scripts, what a policy has forbidden."""
        return [x for x in self.logged("browser") if x["level"] in ("SEVERE", "WARNING")]

    def requests(self):
        """Every address that it was to ask."""
        messages = [json.loads(x["message"])["message"] for x in self.logged("performance")]
        return [m["params"]["request"]["url"] for m in messages
                if m["method"] == "Network.requestWillBeSent"]

    def hosts(self):
        return {urllib.parse.urlsplit(url).netloc for url in self.requests()
                if url.startswith("http")}
