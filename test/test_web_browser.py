"""The page in a real browser, with a robot that is played (web_server.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import TOKEN, Browser, browser, free_port, need_browser, wait_for_port

SERVER = Path(__file__).with_name("web_server.py")


class Server:
    """The page's server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self._token, self._log = folder / "token", folder / "commands"
        self._token.write_text(TOKEN)
        self._log.touch()
        (folder / "table.safetensors").touch()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def with_token(self) -> str:
        return f"{self.address}?token={TOKEN}"

    def start(self) -> None:
        output = self._folder / "output"
        with output.open("ab") as file:
            words = [sys.executable, str(SERVER), str(self.port), str(self._token), str(self._log)]
            self._process: Any = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, cwd=self._folder)
        wait_for_port(self.port, lambda: self._process.poll() is None, output)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def commands(self, what: str) -> list[Any]:
        """Values with which a command was given, and the robot's name before each."""
        rows = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [(robot, value) for robot, name, value in rows if name == what]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    need_browser()
    server = Server(tmp_path_factory.mktemp("web"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Browser]:
    with browser() as page:
        yield page


@pytest.fixture
def live(server: Server, page: Browser) -> Browser:
    """The page with the token, with a picture in it."""
    page.open(server.with_token)
    page.one(".picture img")
    page.one(".masks path")
    return page


def stamp(page: Browser) -> str:
    return str(page.one(".picture img").get_attribute("src"))[-400:]


def test_pictures_objects_curves_and_health_arrive(live: Browser) -> None:
    first = stamp(live)
    live.until(lambda: stamp(live) != first, "a second picture")
    live.one(".charts svg path.curve")
    for text in (
        "adapter v3",
        "6.0 x 5.0 x 4.0",
        "model, depth",
        "pictures seen",
        "misplaced boxes",
        "All is well",
        "came after their picture",
    ):
        live.until_text(text)
    assert "token" not in live.driver.current_url
    assert not [row for row in live.driver.get_log("browser") if row["level"] == "SEVERE"]


def test_what_is_shown_has_names_for_screen_readers(live: Browser) -> None:
    script = """return [...document.querySelectorAll('button, input, [role=switch], [role=application]')].filter((e) => e.offsetParent &&
        !(e.innerText.trim() || e.ariaLabel || e.closest('[aria-label]') || e.closest('label'))).map((e) => e.outerHTML.slice(0, 200))"""
    assert live.driver.execute_script(script) == []
    assert "Camera picture" in live.one(".stage").get_attribute("aria-label")
    assert live.one(".masks title").get_attribute("textContent") == "box 1, score 0.87, from model and depth, 6.0 x 5.0 x 4.0 cm"


def test_clicks_box_and_paint_are_answered_and_kept(server: Server, live: Browser) -> None:
    live.press("Add")
    live.on_picture((0.3, 0.3))
    live.one(".proposal path")
    live.until_text("Predicted quality 0.91")
    live.press("Remove")
    live.on_picture((0.35, 0.6))
    live.until(lambda: len(live.all(".sketch circle.off")) == 1, "a click off the object")
    live.press("Box")
    live.on_picture((0.2, 0.2), (0.6, 0.6), drag=True)
    live.one(".sketch rect")
    live.press("Undo")
    live.until(lambda: not live.all(".sketch rect"), "the box's going")
    live.press("Paint")
    live.on_picture((0.25, 0.3), (0.3, 0.35), (0.35, 0.3), drag=True)
    live.one(".sketch polyline")
    before = len(server.commands("teach"))
    live.press("Keep for learning")
    live.until_text("Kept: it is learnt from now")
    ((_, (name, box, pixels)),) = server.commands("teach")[before:]
    assert name.startswith("person-")
    assert 2000 < pixels < 2600  # a disc with a radius of 28
    assert box[0] < 0.3 * 320 < box[2]
    live.until(lambda: not live.all(".proposal path") and not live.all(".badge"), "the live picture")


def test_questions_are_answered_mended_and_taken_back(server: Server, live: Browser) -> None:
    live.until_text("3 questions wait.")
    live.press("Yes, it is")
    live.until_text("Thank you: yes is learnt from")
    live.until_text("2 questions wait. 1 answers so far.")
    live.press("No, it is not")
    live.until_text("1 question waits. 2 answers so far.")
    live.press("Take the last answer back")
    live.until_text("2 questions wait. 1 answers so far.")
    live.press("Skip")
    live.until_text("1 question waits.")
    live.press("Too much")
    live.on_picture((0.5, 0.7), of=".question-card")
    live.until_text("Is it right now?")
    live.until(lambda: len(live.all(".question-card .sketch circle.off")) == 1, "a click off the thing")
    live.press("Missing")
    live.on_picture((0.5, 0.4), of=".question-card")
    live.until(lambda: len(live.all(".question-card .sketch circle.on")) == 1, "a click on the thing")
    live.press("Send mended")
    live.until_text("No question waits.")
    rows = [value for _, value in server.commands("answer")]
    assert [row[:2] for row in rows] == [[1, "yes"], [2, "no"], [0, "undo"], [2, "skip"], [3, "mended"]]
    assert rows[-1][2] > 2000  # the disc that the segmenter answered with
    assert server.commands("segment")[-1] == ("/", [1, False])


def test_the_keyboard_alone_is_enough_to_click(live: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    live.press("Add")
    stage = live.one(".stage")
    stage.send_keys(Keys.ARROW_LEFT, Keys.ARROW_DOWN, Keys.ENTER)
    live.one(".proposal path")
    assert live.one(".sketch circle.on").get_attribute("cx") == "156"
    live.press("Back to live")


def test_frozen_and_adapted_are_compared(server: Server, live: Browser) -> None:
    before = len(server.commands("segment"))
    live.press("Compare with frozen")
    live.until_text("Their masks agree to")
    assert server.commands("segment")[before:] == [("/", [1, True]), ("/", [1, False])]
    live.driver.execute_script("const e = arguments[0]; e.value = 20; e.dispatchEvent(new Event('input'))", live.one(".split"))
    live.until(lambda: live.one(".seam").get_attribute("x1") == "64", "the seam's moving")
    live.press("Back to live")


def test_what_cannot_be_undone_is_asked_for(server: Server, live: Browser) -> None:
    live.press("Roll back")
    live.until_text("Go back one adapter?")
    live.press("No")
    live.until(lambda: "Go back one adapter?" not in live.text(), "the question's going")
    assert not server.commands("rollback")
    live.press("Save")
    live.until_text("save is done")
    live.press("v1")
    live.until_text("Go back to version 1?")
    live.press("Yes")
    live.until_text("Version 1 is served again")
    assert len(server.commands("rollback")) == 2
    live.press("Learning")
    live.until_text("learning paused")
    assert server.commands("pause") == [("/", "True")]
    live.press("Learning")
    live.until(lambda: server.commands("pause")[-1] == ("/", "False"), "learning again")


def test_a_file_is_loaded_by_its_name_in_the_folder(server: Server, live: Browser) -> None:
    live.press("Load")
    live.press("table.safetensors")
    live.until_text("load is done")
    ((_, path),) = server.commands("load")
    assert Path(path).name == "table.safetensors"


def test_without_the_token_a_second_browser_watches_and_changes_nothing(server: Server, live: Browser) -> None:
    before = len(server.commands("save"))
    with browser(390, 900) as other:
        other.open(server.address)
        other.one(".masks path")
        other.until_text("To change something, open the link with the token")
        assert not other.all(".tools")
        other.until_text("Questions")
        assert not other.all(".question-card button") and not other.all(".question-card img")
        saves = [each for each in other.all("button") if each.text.endswith("Save")]
        assert [each.get_attribute("disabled") for each in saves] == ["true"]
        other.driver.execute_script("arguments[0].disabled = false; arguments[0].click()", saves[0])
        wide, shown = other.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide <= shown, "a phone would have to scroll sideways"
        first, second = stamp(live), stamp(other)
        live.until(lambda: stamp(live) != first and stamp(other) != second, "new pictures in both browsers")
    assert len(server.commands("save")) == before


def test_another_robot_is_chosen_from_the_list(server: Server, live: Browser) -> None:
    live.open(f"{server.address}?robot=%2Farm2")
    live.one(".masks path")
    assert server.commands("watched")[-1][0] == "/arm2"
    live.open(f"{server.address}?robot=%2Fetc")  # none of them
    live.one(".masks path")
    live.until(lambda: server.commands("watched")[-1] == ("/", 1), "the first robot")


def test_nothing_is_watched_while_no_page_is_open_or_in_view(server: Server, live: Browser) -> None:
    live.until(lambda: server.commands("watched")[-1] == ("/", 1), "watching")
    hidden = "Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true})"
    live.driver.execute_script(f"{hidden}; document.dispatchEvent(new Event('visibilitychange'))")
    live.until(lambda: server.commands("watched")[-1] == ("/", 0), "the end of watching")
    live.open(server.address)
    live.until(lambda: server.commands("watched")[-1] == ("/", 1), "watching again")
    live.open("about:blank")
    live.until(lambda: server.commands("watched")[-1] == ("/", 0), "the end of watching")


def test_a_lost_connection_comes_back(server: Server, live: Browser) -> None:
    server.kill()
    live.until(
        lambda: any(each.is_displayed() for each in live.all("#popup, .nicegui-error-popup")), "the message that the connection is lost"
    )
    server.start()
    live.until(lambda: live.all(".masks path") and not any(each.is_displayed() for each in live.all("#popup")), "the page's coming back")
    first = stamp(live)
    live.until(lambda: stamp(live) != first, "pictures again")
    live.press("Save")  # the token is still known
    live.until_text("save is done")
