"""The page in a real browser before a whole node: by keyboard alone, without a complaint of browser or axe."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from PIL import Image

from accrete import Client, InboxItem
from benchmarks.node import default_node
from benchmarks.waiting import free_port, until
from tests.page.browsing import Tab, chromium
from tests.server.test_access import principals

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = pytest.mark.integration

COLOURS = {"red": (210, 40, 40), "green": (40, 170, 60), "blue": (40, 60, 200)}
BETWEEN = (125, 105, 50)
"""Red and green."""
NASTY = "<img src=x onerror=alert(1)><script>alert(2)</script>"
VIEWS = {"n": "Now", "i": "Inbox", "c": "Classes", "v": "Versions", "q": "Quarantine", "t": "Try"}


def scene(colour: tuple[int, int, int], seed: int) -> np.ndarray:
    """A picture of things of a colour before something dark or light, uint8 [96, 96, 3]; no two look alike."""
    generator = np.random.default_rng(seed)
    image = np.full((96, 96, 3), generator.uniform(20, 230)) + generator.normal(0, 8, (96, 96, 3))
    for _ in range(generator.integers(3, 7)):
        top, left = generator.integers(0, 72, 2)
        height, width = generator.integers(16, 56, 2)
        image[top : top + height, left : left + width] = np.multiply(colour, generator.uniform(0.6, 1.2))
    return np.clip(image, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Node:
    """A node with its page, and the tokens of those who may ask."""

    data_dir: Path
    page: str
    tokens: dict[str, str]
    client: Client

    def address(self) -> str:
        """Return where the server is now."""
        return str(json.loads((self.data_dir / "server.json").read_text())["address"])

    def doubt(self, number: int, seed: int) -> list[InboxItem]:
        """Have only so many images in the inbox, of a colour between two, of which the model is unsure; return them."""
        self.client.skip_inbox([item.id for item in self.client.inbox(page_size=200).items])
        for at in range(seed, seed + 50):
            before = self.client.inbox().open
            if before >= number:
                break
            self.client.predict(scene(BETWEEN, at))
            with contextlib.suppress(TimeoutError):  # one that looks like another is not kept
                until(functools.partial(self._more_than, before), seconds=2)
        return list(self.client.inbox().items)

    def _more_than(self, number: int) -> bool:
        return self.client.inbox().open > number


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def new_node(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One for all tests, which add to what it knows. New labels wait for approval."""
    folder = tmp_path_factory.mktemp("node")
    tokens = principals(folder, maria="predict,teach,operate,metrics", app="predict")
    settings = {
        "access.tokens": str(folder / "tokens"),
        "page.enabled": "true",
        "page.port": str(free_port()),  # a page that is started again is where it was
        "inbox.enabled": "true",
        "inbox.margin": "1",
        "inbox.per_minute": "600",
        "teaching.approve_new_labels": "true",
    }
    with (
        default_node(folder / "data", settings) as address,
        Client(address, token=tokens["maria"], timeout=300) as client,
    ):
        client.wait_ready(300)
        page = until(lambda: _page(folder / "data"), "the page")
        yield Node(folder / "data", page, tokens, client)


@pytest.fixture(scope="module")
def node(new_node: Node) -> Node:
    """The node once it knows three colours, and holds a label with a script in it."""
    client = new_node.client
    pictures = [(name, scene(colour, seed)) for seed in range(4) for name, colour in COLOURS.items()]
    ids = client.add_examples(pictures).ids
    for name in COLOURS:
        client.approve(name)
    client.wait_learned(ids, timeout=300)
    client.add_examples([(NASTY, scene((90, 90, 90), 99))])
    return new_node


@contextlib.contextmanager
def _without_server(node: Node) -> Iterator[None]:
    """Kill the server, which is started again at the end: else it is back before a busy browser has shown anything."""
    server = int(json.loads((node.data_dir / "server.json").read_text())["pid"])
    supervisor = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(server, signal.SIGKILL)
        yield
    finally:
        os.kill(supervisor, signal.SIGCONT)


def _ids(node: Node, state: Literal["labelled", "skipped"]) -> set[str]:
    return {item.id for item in node.client.inbox(state=state, page_size=200).items}


def _page(data_dir: Path) -> str:
    file = data_dir / "page.json"
    return str(json.loads(file.read_text())["address"]) if file.exists() else ""


@pytest.fixture
def tab(browser: Browser, node: Node) -> Iterator[Callable[..., Tab]]:
    """Opens tabs of people who sign in. Fails where the browser complained of anything but failed requests."""
    opened: list[Tab] = []

    def make(who: str = "maria", **options: Any) -> Tab:
        made = Tab(browser, node.page, **options)
        opened.append(made)
        made.sign_in(node.tokens[who])
        return made

    yield make
    for one in opened:
        one.context.close()
        assert one.unasked_complaints() == []


Tabs = Callable[..., Tab]


def test_a_newcomer_teaches_three_photographs_of_a_thing_and_it_is_known(
    browser: Browser, new_node: Node, tmp_path: Path
):
    files = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, file in enumerate(files):
        Image.fromarray(scene((235, 235, 235), 700 + seed)).save(file)
    found = Tab(browser, new_node.page)
    found.sign_in(new_node.tokens["maria"])
    found.see("Nothing has been learned yet")
    found.view("t", "Try")
    found.tab_to_field("thing")
    found.type("white")
    found.press("Tab")
    with found.page.expect_file_chooser() as chooser:
        found.press("o")
    chooser.value.set_files(files)
    found.find(".slots .taken img").nth(2).wait_for()
    found.tab_to("Teach it")
    found.press("Enter")
    until(lambda: [one.pending for one in new_node.client.held()] == [3], "the photographs")
    new_node.client.approve("white")
    new_node.client.trigger_step()
    found.see("white is known. As the only thing it would be the answer to every image: teach another one.")
    assert found.unasked_complaints() == []
    found.context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_each_view_is_reached_by_keys_and_axe_finds_nothing_wrong(node: Node, tab: Tabs, scheme: str, width: int):
    node.doubt(1, seed=1000 + width)
    found = tab(scheme=scheme, width=width)
    for letter, title in VIEWS.items():
        found.view(letter, title)
        found.find(".loading").wait_for(state="detached")
        assert found.violations() == [], title
        assert not found.page.evaluate("document.documentElement.scrollWidth > innerWidth"), title
    found.press("?")
    found.see("Everywhere")
    assert found.violations() == []
    assert found.unasked_complaints() == []


def test_now_shows_what_happens_and_learning_is_paused_and_resumed(node: Node, tab: Tabs):
    found = tab()
    found.see("Accuracy by version")
    found.see("red")
    found.press("p")
    found.see("Resume learning")
    assert node.client.status().paused
    found.press("p")
    found.see("Pause learning")
    assert not node.client.status().paused


def test_an_image_is_labelled_undone_labelled_anew_and_learned(node: Node, tab: Tabs):
    ids = {item.id for item in node.doubt(3, seed=100)}
    found = tab()
    found.view("i", "Inbox")
    found.find(".answer").first.wait_for()
    found.press("1")
    found.find(".recent .given").wait_for()
    found.press("z")
    until(lambda: not ids.intersection(_ids(node, "labelled")), "the label taken back")
    found.find(".recent .given").wait_for(state="detached")
    found.press("/")
    found.type("blu")
    found.press("Enter")
    found.see(re.compile(r"learned in v\d+"))
    (item,) = [one for one in node.client.inbox(state="labelled").items if one.id in ids]
    assert (item.label, item.by) == ("blue", "maria")
    assert [one.label for one in node.client.examples("blue", ids=[item.id]).examples] == ["blue"]
    found.press("Space")
    until(lambda: ids.intersection(_ids(node, "skipped")), "the image skipped")


def test_who_types_faster_than_the_labels_arrive_chooses_one_of_them(node: Node, tab: Tabs):
    ids = {item.id for item in node.doubt(1, seed=800)}
    found = tab()
    found.view("i", "Inbox")
    found.find(".answer").first.wait_for()
    held: list[Route] = []
    found.page.route("**/api/classes", lambda route: held.append(route))
    found.press("/")
    found.type("blu")
    found.press("Enter")
    found.see("Looking for the labels.")
    for one in held:
        one.continue_()
    until(lambda: ids <= _ids(node, "labelled"), "it labelled")
    (item,) = [one for one in node.client.inbox(state="labelled").items if one.id in ids]
    assert item.label == "blue"
    found.page.unroute("**/api/classes")


def test_many_are_labelled_by_one_key(node: Node, tab: Tabs):
    ids = {item.id for item in node.doubt(3, seed=200)}
    found = tab()
    found.view("i", "Inbox")
    found.press("v")
    found.find(".tile").nth(2).wait_for()
    found.find("[role=listbox]").first.focus()
    found.press("Home", "Space")
    found.see("1 image chosen")
    found.press("a")
    found.see("3 images chosen")
    found.press("1")
    until(lambda: ids <= _ids(node, "labelled"), "all of them labelled")
    found.see("Nothing waits for a label")


def test_of_two_people_the_second_is_told_what_the_first_has_said(node: Node, tab: Tabs):
    (item,) = node.doubt(1, seed=400)
    first, second = tab(), tab()
    for one in (first, second):
        one.view("i", "Inbox")
        one.find(".answer").nth(1).wait_for()
    first.press("1")
    until(lambda: not node.client.inbox().open, "the first label")
    second.press("2")
    second.see(re.compile(f"“{re.escape(item.labels[1].label)}” was not taken"))
    second.see(re.compile("maria"))
    assert {one.id: one.label for one in node.client.inbox(state="labelled").items}[item.id] == item.labels[0].label


def test_two_tabs_show_the_same(node: Node, tab: Tabs):
    first = tab()
    second = first.beside()
    second.view("n", "Now")
    first.press("p")
    second.see("Resume learning")
    second.press("p")
    first.see("Pause learning")


def test_a_class_is_found_looked_at_renamed_and_an_example_deleted(node: Node, tab: Tabs):
    ids = node.client.add_examples([("crimson", scene((150, 20, 60), seed)) for seed in range(3)]).ids
    node.client.approve("crimson")
    node.client.wait_learned(ids, timeout=300)
    found = tab()
    found.view("c", "Classes")
    found.find("#find-class").wait_for()
    found.press("/")
    found.type("crim")
    found.tab_to("crimson")
    found.press("ArrowDown")
    found.find("h2:text-is('crimson')").wait_for()
    found.find(".tile").nth(2).wait_for()
    found.find("[role=listbox][aria-label^=Exemplars]").focus()
    found.press("Space", "d")
    found.see("Delete 1 example of crimson")
    found.press("Enter")
    until(lambda: node.client.examples("crimson").total == 2, "the example gone")
    found.find("dialog").wait_for(state="detached")
    found.press("r")
    found.find("dialog input").wait_for()
    found.press("Control+a")
    found.type("purple")
    found.press("Enter")
    found.see("Rename crimson")
    found.find("dialog button.strong").wait_for()
    found.press("Enter")
    found.find("h2:text-is('purple')").wait_for()
    found.find("dialog").wait_for(state="detached")
    found.press("F")
    found.see("Deleted for good")
    found.find("dialog input:focus").wait_for()
    found.type("purple")
    found.press("Enter")
    until(
        lambda: "purple" not in {one.label for one in node.client.classes() if one.state == "learned"}, "it forgotten"
    )


def test_a_version_is_activated_by_its_number_and_unpinned(node: Node, tab: Tabs):
    until(lambda: node.client.status().phase == "waiting", "the learner at rest")
    newest, before = [one.version for one in node.client.versions() if one.state == "ready"][:2]
    found = tab()
    found.view("v", "Versions")
    found.find(f"h2:text-is('v{newest}')").wait_for()
    found.press("j", "a")
    found.see(f"Activate v{before}")
    found.see("It is pinned")
    found.press("Enter")
    found.type(str(before))
    found.press("Enter")
    until(lambda: node.client.status().pinned and node.client.status().version == before, "the version live")
    found.see("live, pinned")
    found.find("dialog").wait_for(state="detached")
    found.press("u")
    found.see("goes live, which is")
    found.type(str(newest))
    found.press("Enter")
    until(lambda: not node.client.status().pinned, "it unpinned")


def test_a_held_label_is_inert_and_is_approved_or_dropped(node: Node, tab: Tabs):
    node.client.add_examples([("amber", scene((220, 160, 20), seed)) for seed in range(3)])
    found = tab()
    found.view("q", "Quarantine")
    found.find(f"article[aria-label='{NASTY}'] img").wait_for()
    found.find("article[aria-label=amber] img").nth(2).wait_for()
    found.press("j" if found.find("article").first.get_attribute("aria-label") == NASTY else "k")
    found.find("article[aria-label=amber].current").wait_for()
    found.press("a")
    until(lambda: "amber" in {one.label for one in node.client.classes() if one.state == "learned"}, "amber")
    found.find("article[aria-label=amber]").wait_for(state="detached")
    found.press("d")
    found.see("Drop 1 example of")
    found.press("Enter")
    found.see("Nothing is held")
    assert node.client.held() == []


def test_an_image_is_tried_and_taught(node: Node, tab: Tabs, tmp_path: Path):
    file = tmp_path / f"{NASTY.replace('/', '')}.png"
    Image.fromarray(scene(COLOURS["blue"], 500)).save(file)
    found = tab()
    found.view("t", "Try")
    with found.page.expect_file_chooser() as chooser:
        found.press("o")
    chooser.value.set_files(file)
    found.find("ol.ranked .answer").nth(2).wait_for()
    assert found.find(".answer .label").first.inner_text() == "blue"
    found.find(".neighbours img").first.wait_for()
    found.press("/")
    found.type("gre")
    found.press("Enter")
    found.see(re.compile(r"learned in v\d+"))
    assert found.violations() == []


def test_a_token_that_is_not_known_is_refused_where_it_was_pasted(browser: Browser, node: Node):
    found = Tab(browser, node.page)
    found.find("input[name=token]").wait_for()
    assert found.violations() == []
    found.page.keyboard.insert_text("not-a-token")
    found.press("Enter")
    found.see("the server does not know this token")
    found.press("Control+a")
    found.sign_in(node.tokens["maria"])
    found.find("h1:text-is('Now')").wait_for()
    assert found.unasked_complaints() == []
    found.context.close()


def test_who_may_only_ask_sees_no_image(node: Node, tab: Tabs):
    (item,) = node.doubt(1, seed=600)
    found = tab("app")
    found.view("i", "Inbox")
    found.see("Images are for those who teach")
    found.view("c", "Classes")
    found.find(".long-list .row").first.wait_for()
    found.press("j")
    found.see("Whoever may teach or operate sees the examples themselves")
    assert found.find("main img").count() == 0
    example = node.client.examples("red", page_size=1).examples[0]
    for route in (f"inbox/image?id={item.id}", f"examples/image?label=red&id={example.id}"):
        assert found.page.evaluate("route => fetch('api/' + route).then(one => one.status)", route) == 403


def test_what_stands_in_a_tab_outlives_a_restart_of_the_page_that_ends_its_session(node: Node, tab: Tabs):
    (item,) = node.doubt(1, seed=350)
    found = tab()
    found.view("i", "Inbox")
    found.find(".answer").first.wait_for()
    found.press("/")
    found.type("blu")
    os.kill(json.loads((node.data_dir / "page.json").read_text())["pid"], signal.SIGKILL)
    found.find("dialog:has-text('Sign in again') input:focus").wait_for()
    assert found.violations() == []
    found.sign_in(node.tokens["maria"])
    found.find("dialog:has-text('Sign in again')").wait_for(state="detached")
    found.press("Enter")
    found.see(re.compile(r"learned in v\d+"))
    assert {one.id: one.label for one in node.client.inbox(state="labelled").items}[item.id] == "blue"


def test_a_label_given_while_the_server_is_killed_is_kept_and_sent_once(node: Node, tab: Tabs, tmp_path: Path):
    """The last one: the server comes back at another port, where the page finds it and the other tests would not."""
    (item,) = node.doubt(1, seed=300)
    found = tab()
    found.view("i", "Inbox")
    found.find(".answer").first.wait_for()
    label = found.find(".answer .label").first.inner_text()
    taught = found.beside()
    taught.view("t", "Try")
    Image.fromarray(scene(COLOURS["blue"], 900)).save(tmp_path / "blue.png")
    taught.find("input[type=file]").set_input_files(tmp_path / "blue.png")
    taught.find("ol.ranked .answer").nth(2).wait_for()
    before = {one.id for one in node.client.examples("blue", page_size=200).examples}
    with _without_server(node):
        found.press("1")
        taught.press("1")
        found.see(re.compile("does not answer since"))
        found.see(re.compile("1 label is kept here"))
        taught.see("kept, not sent")
    found.find(".standing .notice").wait_for(state="detached")
    found.see(re.compile(r"learned in v\d+|^sent$"))
    with Client(node.address(), token=node.tokens["maria"], timeout=300) as client:
        until(lambda: item.id in {one.id for one in client.inbox(state="labelled").items}, "the label")
        taught.see(re.compile(r"learned in v\d+"))
        kept = [one.id for one in client.examples(label, page_size=200).examples]
        blue = {one.id for one in client.examples("blue", page_size=200).examples}
    assert kept.count(item.id) == 1
    assert len(blue - before - {item.id}) == 1
