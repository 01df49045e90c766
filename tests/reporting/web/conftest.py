"""One made-up edition, its page from disk and from a web server, one headless Chromium."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from georecon.experiments.experiments import Experiments
from tests.reporting.web import toy_site

PHONE, DESKTOP = (390, 844), (1440, 900)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiments]:
    """Working folder of a finished edition; not to be changed."""
    root = tmp_path_factory.mktemp("site")
    return root, toy_site.write_tree(root)


@pytest.fixture(scope="session")
def page(tree: tuple[Path, Experiments]) -> Path:
    return toy_site.write_page(*tree)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *given: Any) -> None:
        """Requests are counted in the browser."""


@pytest.fixture(scope="session")
def server(page: Path) -> Iterator[str]:
    """Address of the page on a plain web server of the results folder."""
    results = page.parents[1]
    handler = functools.partial(Quiet, directory=str(results))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}/report/index.html"
        found.shutdown()
        thread.join()


@pytest.fixture(params=["disk", "server"])
def address(request: pytest.FixtureRequest, page: Path) -> str:
    if request.param == "disk":
        return page.as_uri()
    return str(request.getfixturevalue("server"))


class Browser:
    """A headless Chromium with the few things the tests ask of it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def size(self, width: int, height: int) -> None:
        """Size of the page's area [CSS pixels]; a narrow one behaves as a phone."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def media(self, *, dark: bool = False, printing: bool = False) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        features = [scheme, {"name": "prefers-reduced-motion", "value": "reduce"}]
        media = "print" if printing else "screen"
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": features}
        )

    def open(self, address: str) -> None:
        """Load a page anew: also where only the part after # differs."""
        self.driver.get("about:blank")
        self.log()
        self.requests()
        self.driver.get(address)

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def keys(self, *keys: str) -> None:
        """Press keys wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver, duration=0)
        for key in keys:
            chain.send_keys(key)
        chain.perform()

    def wait(self, script: str) -> None:
        """Until a script's value is true, at most 5 s."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 5, 0.02).until(lambda _: self.run(script))

    def log(self) -> list[str]:
        """What the console said since the last time."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses the page asked for since the last time."""
        messages = (json.loads(e["message"])["message"] for e in self.driver.get_log("performance"))
        sent = (m for m in messages if m["method"] == "Network.requestWillBeSent")
        return [message["params"]["request"]["url"] for message in sent]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    chrome, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chrome or not driver:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    if importlib.util.find_spec("selenium") is None:
        pytest.skip("needs the Python package selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chrome
    for word in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu",
                 "disable-background-networking", "hide-scrollbars"):  # fmt: skip
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(found)
    finally:
        found.quit()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """The browser at desktop size in daylight."""
    chromium.size(*DESKTOP)
    chromium.media()
    return chromium
