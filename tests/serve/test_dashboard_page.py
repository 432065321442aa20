"""The dashboard's page, in a browser: Chromium, as Debian has it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx
import pytest

from tests.support.keys import Keys
from tests.support.server import Server, running
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page, Route

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

pytestmark = pytest.mark.long
CHROMIUM = Path("/usr/bin/chromium")
expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed: sudo apt install chromium")
    with playwright.sync_playwright() as runs:
        # In a container, as root, its own sandbox does not work.
        started = runs.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test if it logs an error."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    opened, problems = context.new_page(), list[str]()
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda said: problems.append(said.text)
              if said.type == "error" and "the server responded with a status of 4" not in said.text else None)
    yield opened
    context.close()
    assert problems == []


class Calling:
    """Calls a server all the time."""

    def __init__(self, server: Server, *paths: tuple[str, object]) -> None:
        self._server, self._paths, self._stop = server, paths, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._server.client.base_url, timeout=PATIENCE) as client:
            while not self._stop.is_set():
                for path, body in self._paths:
                    client.post(path, json=body)


@contextmanager
def visiting(page: Page, server: Server, fragment: str = "") -> Iterator[None]:
    """On the dashboard, which is left before the server ends."""
    page.goto(f"{server.client.base_url}/dashboard{fragment}")
    try:
        yield
    finally:
        page.goto("about:blank")


ADD, FAIL = ("/api/call/add", {"args": [2, 3]}), ("/api/request/fail", "x")


def test_the_page_shows_calls_while_they_run(page: Page, calls: Path) -> None:
    with running("--allow-restart", calls) as server, Calling(server, ADD, FAIL), visiting(page, server):
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.locator("#about")).to_contain_text("threaded, running")
        expect(page.locator("#calls")).to_contain_text("export add")
        expect(page.locator("#calls")).to_contain_text(re.compile(r"handler fail\d.*ms"))
        for title in ("Calls in the module", "Latency over HTTP", "Processors", "Goroutines", "Heap"):
            figure = page.locator("figure", has_text=title)
            expect(figure).to_be_visible()
            expect(figure.locator("svg")).to_have_attribute("aria-label", re.compile(f"^{title}, the last .*most: "))
            expect(figure.locator("path").first).to_have_attribute("d", re.compile("L"))  # a line
        # Failures have texts, and are opened by the keyboard.
        failure = page.locator("#failures summary", has_text="handler fail: error")
        expect(failure).to_contain_text("no: ")
        failure.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#failures details[open]")).to_contain_text("Without a stack.")
        page.locator("#dump").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#goroutines")).to_contain_text(re.compile(r"goroutine \d+ \[.*main\.main", re.DOTALL))


def test_the_timeline_is_drawn_and_read_with_the_keyboard(page: Page, calls: Path) -> None:
    with running(calls) as server, visiting(page, server):
        server.begin("spin")
        expect(page.locator("#threads")).to_contain_text(re.compile(r"M\d+.*call \d+"))
        expect(page.locator("#legend")).to_contain_text("calls")
        timeline = page.locator("#timeline")
        expect(timeline).to_have_attribute("aria-label", re.compile(r"^Timeline of \d+ threads.*M\d+ ran goroutines"))
        drawn = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(byte => byte)"""
        assert timeline.evaluate(drawn)
        timeline.focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#hold")).to_have_text("Go on")
        rows = page.locator("#threads tbody tr").all_inner_texts()
        lane = next(place for place, row in enumerate(rows) if "call" in row)
        for key in ["ArrowUp"] * len(rows) + ["ArrowDown"] * lane:
            page.keyboard.press(key)
        under = page.locator("#under")
        for _ in range(200):  # the whole of what is shown
            assert re.match(r"M\d+, [\d.]+ s before the end: ", under.inner_text())
            if "a call, for" in under.inner_text():
                break
            page.keyboard.press("ArrowLeft")
        expect(under).to_contain_text(re.compile(r"goroutine \d+, a call, for"))
        page.locator("#hold").press("Enter")
        expect(under).to_have_text("")


def test_a_replaced_app_is_shown_on(page: Page, calls: Path) -> None:
    asked = list[str]()

    def agree(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept()
    page.on("dialog", agree)
    with running("--allow-restart", calls) as server, Calling(server, ADD), visiting(page, server):
        replaced = page.locator("#cards div", has_text="Replaced").locator("dd")
        expect(replaced).to_have_text("0")
        page.locator("#restart").click()
        expect(page.locator("#restarted")).to_have_text("It is replaced.")
        expect(replaced).to_have_text("1")
        expect(page.locator("#connection")).to_have_text("live")
        assert len(asked) == 1


def test_a_key_unlocks_what_it_has_the_right_to(page: Page, calls: Path, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    watcher = keys.new("watcher", "metrics")["Authorization"].split()[1]
    with running("--api-keys", keys.path, calls) as server, visiting(page, server):
        expect(page.locator("#connection")).to_have_text("locked")
        page.locator("#key input").fill("gt_wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key [role=alert]")).to_contain_text("the API key is unknown")
        page.locator("#key input").fill(watcher)
        page.keyboard.press("Enter")
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.locator("#about")).to_contain_text("threaded, running")
        expect(page.locator("#dump")).to_be_disabled()
        expect(page.locator("#restart")).to_be_disabled()
        expect(page.locator("#failures")).to_contain_text("for those with the right inspect")


def test_where_the_metrics_have_an_address_figures_need_no_key_and_stacks_do(page: Page, calls: Path,
                                                                             tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    owner = keys.new("owner", "*")["Authorization"].split()[1]
    with running("--metrics-address", "127.0.0.1:0", "--api-keys", keys.path, calls) as server:
        assert server.process.stderr is not None
        found = re.search(r"(http://\S+)/metrics", server.process.stderr.readline())
        assert found is not None
        page.goto(f"{found[1]}/dashboard")
        expect(page.locator("#about")).to_contain_text("threaded, running")
        expect(page.locator("#dump")).to_be_disabled()
        page.locator("#key input").fill(owner)
        page.keyboard.press("Enter")
        expect(page.locator("#dump")).to_be_enabled()
        expect(page.locator("#key")).to_be_hidden()
        expect(page.locator("#about")).to_contain_text("threaded, running")
        page.goto("about:blank")


def test_apps_are_chosen_and_models_without_threads_say_so(page: Page, calls: Path, tmp_path: Path) -> None:
    file = tmp_path / "gothreads.toml"
    file.write_text(f"""
[apps.one]
module = "{calls}"
[apps.two]
module = "{calls}"
restart = "on-failure"
""")
    with running("-c", file) as server, visiting(page, server, "#two"):
        expect(page.locator("#app")).to_have_value("two")
        expect(page.locator("#cards div", has_text="Restarts")).to_be_visible()
        page.locator("#app").focus()
        page.keyboard.press("ArrowUp")
        expect(page.locator("#app")).to_have_value("one")
        expect(page.locator("#cards div", has_text="Restarts")).to_have_count(0)
        server.client.post("/two/api/request/panic", content=b"oh")
        page.locator("#app").select_option("two")
        expect(page.locator("#trouble")).to_contain_text("panic: oh")
        expect(page.locator("#failures")).to_contain_text("the module's end")


def test_failures_that_did_not_come_are_asked_for_again(page: Page, calls: Path) -> None:
    asked = list[str]()

    def lose_the_first(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(status=403, json={"error": "lost"})
        else:
            route.continue_()
    page.route("**/failures", lose_the_first)
    with running(calls) as server:
        server.client.post("/api/request/fail", json="x")
        with visiting(page, server, "#%"):  # no app has that name
            expect(page.locator("#failures summary", has_text="handler fail: error")).to_be_visible()
        assert len(asked) == 2


def test_what_comes_for_another_app_is_not_shown(page: Page, calls: Path, tmp_path: Path) -> None:
    file = tmp_path / "gothreads.toml"
    file.write_text(f'[apps.one]\nmodule = "{calls}"\n[apps.two]\nmodule = "{calls}"\n')
    late: list[Route] = []
    page.route("**/one/goroutines", lambda route: late.append(route))
    with running("-c", file) as server, visiting(page, server, "#one"):
        expect(page.locator("#connection")).to_have_text("live")
        page.locator("#dump").click()
        expect(page.locator("#dump")).to_be_disabled()
        page.locator("#app").select_option("two")
        expect(page.locator("#about")).to_contain_text("two: ")
        with page.expect_response("**/one/goroutines"):
            late[0].fulfill(body="goroutine of one")
        page.evaluate("() => fetch('api/dashboard').then(reply => reply.text())")  # which comes after that
        expect(page.locator("#goroutines")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone(browser: Browser, calls: Path, scheme: Literal["light", "dark"]) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme,
                                  reduced_motion="reduce")
    page = context.new_page()
    with running(calls) as server, Calling(server, ADD), visiting(page, server):
        expect(page.locator("#calls")).to_contain_text("export add")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        background = page.evaluate("getComputedStyle(document.documentElement).colorScheme")
        assert background == "light dark"
    context.close()
