"""Debian's Chromium for the tests of the page, and what they do with it."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WAIT = 60.0
"""Seconds after which something that should have happened has not."""
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
TOKEN = "a-token-of-the-tests"


def need_browser() -> None:
    """Skips where there is no NiceGUI, Chromium or selenium."""
    for module in ("nicegui", "selenium"):
        pytest.importorskip(module, reason=f"needs {module}: pip install -r requirements-web.txt")
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}; on Debian: apt install chromium chromium-driver")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Browser:
    """A browser, with waits."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        """Opens an address."""
        self.driver.get(address)

    def until(self, condition: Callable[[], Any], what: str, seconds: float = WAIT) -> Any:
        """The first true value of a condition; elements that are replaced meanwhile are looked for again."""
        from selenium.common.exceptions import StaleElementReferenceException, WebDriverException

        end = time.monotonic() + seconds
        while True:
            try:
                if value := condition():
                    return value
            except StaleElementReferenceException:
                pass
            except WebDriverException as error:
                if "not interactable" not in str(error) and "intercepted" not in str(error):
                    raise
            assert time.monotonic() < end, f"{what} did not happen within {seconds:g} s; the page says: {self.text()[:2000]}"
            time.sleep(0.05)

    def text(self) -> str:
        """The words on the page."""
        return str(self.driver.execute_script("return document.body ? document.body.innerText : ''"))

    def until_text(self, text: str) -> None:
        """Waits for words on the page."""
        self.until(lambda: text in self.text(), f"the text {text!r}")

    def all(self, css: str) -> list[Any]:
        """Elements by a CSS selector."""
        found: list[Any] = self.driver.find_elements("css selector", css)
        return found

    def one(self, css: str) -> Any:
        """The first element of a CSS selector, when it is there."""
        return self.until(lambda: self.all(css), f"an element {css}")[0]

    def press(self, text: str, within: str = "button, [role=switch], .q-toggle") -> None:
        """Clicks on the visible control with these words or this label."""

        def pressed() -> bool:
            for each in self.all(within):
                words = (each.text.strip().splitlines() or [""])[-1]
                if each.is_displayed() and each.is_enabled() and text in (words, each.get_attribute("aria-label")):
                    self.driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", each)
                    each.click()
                    return True
            return False

        self.until(pressed, f"a control {text!r}")

    def on_picture(self, *places: tuple[float, float], drag: bool = False, of: str = "") -> None:
        """Clicks on places of the picture `of` an element, as shares of its width and height, or drags from the first to the last."""
        from selenium.webdriver.common.action_chains import ActionChains

        svg = self.one(f"{of} .picture svg")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", svg)
        size = svg.rect
        actions = ActionChains(self.driver, duration=50)
        for n, (x, y) in enumerate(places):
            actions.move_to_element_with_offset(svg, round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"]))
            if not drag:
                actions.click()
            elif n == 0:
                actions.click_and_hold()
        if drag:
            actions.release()
        actions.perform()


@contextmanager
def browser(width: int = 1300, height: int = 1400) -> Iterator[Browser]:
    """A browser of its own: with no cookies."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def wait_for_port(port: int, alive: Callable[[], bool], log: Path) -> None:
    """Waits until somebody listens on a port; fails where the process ends before."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        assert alive(), f"the server has ended:\n{log.read_text()}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nobody listens on port {port}:\n{log.read_text()}")
