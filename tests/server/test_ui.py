"""The pages, as a person uses them in a browser."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import rows
import sqlalchemy as sa

from harness import RunningServer
from workshop_server import api_keys
from workshop_server.runs import states
from workshop_server.store import tables, timestamps
from workshop_server.store.database import Database
from workshop_server.ui import visits

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
WINDOW = {"width": 1440, "height": 1000}
SOON = 60_000  # ms: a page notices a change within 5 s, but not on a busy machine
expect.set_options(timeout=SOON)


@dataclass
class Site:
    """A server with a workshop in full swing; `ids` names its rows."""

    server: RunningServer
    database: Database
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.server.ui

    def flow(self, part: str = "", which: str = "group") -> str:
        return f"{self.url}/default/flow/{self.ids[which]}{part}"

    def run(self, which: str, tab: str = "") -> str:
        return f"{self.url}/default/flow-run/{self.ids.get(which, which)}" + (f"?tab={tab}" if tab else "")

    def change(self, table: sa.Table, row_id: str, **values: object) -> None:
        with self.database.write() as conn:
            conn.execute(sa.update(table).where(table.c.id == row_id).values(**values))

    def row(self, table: sa.Table, row_id: str) -> sa.Row | None:
        with self.database.read() as conn:
            return conn.execute(sa.select(table).where(table.c.id == row_id)).first()

    def own(self, state: str = "Success", **more: object) -> tuple[rows.Flow, str]:
        """A flow and a run that no other test looks at."""
        with self.database.write() as conn:
            flow = rows.flow(conn, name=tables.new_id()[:8], project="Own")
            return flow, rows.run(conn, flow, state, slides=3, **more)


@contextmanager
def opened(server: RunningServer) -> Iterator[Site]:
    database = Database(server.database)
    with database.write() as conn:
        ids = rows.workshop(conn)
    yield Site(server, database, ids)
    database.close()


@pytest.fixture(scope="module")
def site(shared_server: RunningServer) -> Iterator[Site]:
    with opened(shared_server) as found:
        yield found


@pytest.fixture(scope="module")
def either_site(shared_either: RunningServer) -> Iterator[Site]:
    with opened(shared_either) as found:
        yield found


@contextmanager
def watched(browser: object, **options: object) -> Iterator[object]:
    """A new reader's page, on which no script may fail and nothing may be asked for that is forbidden."""
    context, page, problems = reader(browser, **options)
    yield page
    context.close()
    assert not problems


def reader(browser: object, **options: object) -> tuple[object, object, list[str]]:
    """A new reader, without cookies; their page; and what goes wrong on it from now on."""
    context = browser.new_context(**{"viewport": WINDOW, **options})
    page = context.new_page()
    page.set_default_timeout(SOON)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" and not said.text.startswith(
        "Failed to load resource") else None)
    page.on("response", lambda answer: problems.append(answer.url) if answer.status == 404 or answer.status > 499
            else None)
    page.on("dialog", lambda dialog: (problems.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    return context, page, problems


@pytest.fixture(scope="module")
def window(browser: object) -> tuple[object, list[str]]:
    """The page that the tests of this module use one after the other, since a new reader costs the browser much."""
    _, page, problems = reader(browser)
    return page, problems


@pytest.fixture
def page(window: tuple[object, list[str]]) -> Iterator[object]:
    page, problems = window
    problems.clear()
    page.set_viewport_size(WINDOW)
    yield page
    page.goto("about:blank")  # or it would go on asking for rows that the next test deletes
    assert not problems


def every_page(site: Site) -> list[str]:
    tabs = ("timeline", "schematic", "logs", "tasks", "parameters", "artifacts")
    return [f"{site.url}/default", f"{site.url}/default?project={site.ids['project']}",
            *(f"{site.url}/default/{name}" for name in ("agents", "messages", "api")),
            f"{site.url}/default/task-run/{site.ids['child']}",
            *(site.flow(f"?tab={tab}") for tab in ("overview", "runs", "schematic", "versions", "run")),
            *(site.run(which, tab) for which in ("live", "failed", "done", "late") for tab in tabs)]


def different_pages(site: Site) -> list[str]:
    """Of pages that are laid out alike, with other values, one."""
    alike = [site.run(which, "parameters") for which in ("live", "done", "late")] + [
        site.run(which, "artifacts") for which in ("live", "late")] + [
        site.run(which, "schematic") for which in ("done", "late")] + [site.run("late", "logs")]
    found = [url for url in every_page(site) if url not in alike]
    assert len(found) + len(alike) == len(every_page(site))
    return found


# What is there

def test_every_page_opens_on_either_database(either_site: Site) -> None:
    for url in every_page(either_site):
        with urlopen(url, timeout=30) as answer:
            text = answer.read().decode()
            policy = answer.headers["Content-Security-Policy"]
        assert "<main" in text and "</html>" in text, url
        assert "unsafe" not in policy and "default-src 'self'" in policy
        assert " style=" not in text and " onclick=" not in text and "<script>" not in text


def test_no_page_is_wider_than_the_window(site: Site, browser: object) -> None:
    """From a telephone to a wide screen, and back on the next page; in dark, since all other tests are in light."""
    widths = [360, 1440, 3840]
    with watched(browser, viewport={"width": widths[0], "height": 900}, color_scheme="dark") as page:
        for url in different_pages(site):
            page.goto(url)
            for width in widths:
                if page.viewport_size["width"] != width:
                    page.set_viewport_size({"width": width, "height": 900})
                inner, over, headings = page.evaluate(
                    "[innerWidth, document.documentElement.scrollWidth - innerWidth, "
                    "document.querySelectorAll('h1').length]")
                assert inner == width and over <= 0 and headings == 1, (url, width)
            widths.reverse()


def test_links_that_the_client_prints_open(site: Site, page: object) -> None:
    page.goto(site.url)
    expect(page).to_have_url(f"{site.url}/default")
    page.goto(site.flow())
    expect(page.locator("h1")).to_have_text("Check all slides")
    page.goto(site.flow(f"?flow_id={site.ids['old']}"))
    expect(page.locator(".sub")).to_contain_text("Version 1 of 2")
    page.goto(f"{site.url}/default/flow/{site.ids['old']}")  # a flow's own id instead of its group's
    expect(page).to_have_url(site.flow(f"?flow_id={site.ids['old']}"))
    page.goto(site.run("done"))
    expect(page.locator("h1")).to_have_text("silver-kestrel")
    page.goto(f"{site.url}/default/task-run/{site.ids['child']}")
    expect(page.locator("h1")).to_contain_text("identifyBlurryRegions")


@pytest.mark.parametrize("path", ["nobody", "default/flow/0", "default/flow-run/0", "default/task-run/0", "default/x/y",
                                  "default?project=0", "default/flow-run/0/log.txt", "static/../app.py"])
def test_what_is_not_there_is_not_found(site: Site, path: str) -> None:
    with pytest.raises(HTTPError) as error:
        urlopen(f"{site.url}/{path}", timeout=30)
    assert error.value.code == 404


def test_dashboard_tells_what_goes_on(site: Site, page: object) -> None:
    page.goto(f"{site.url}/default")
    bars = page.get_by_role("region", name="Last runs").locator(".bars li a")
    expect(bars.last).to_have_attribute("href", f"/default/flow-run/{site.ids['live']}")  # the newest is on the right
    bars.last.focus()
    expect(page.locator(".tip:visible")).to_contain_text("amber-otter Running")
    expect(page.get_by_role("region", name="Upcoming")).to_contain_text("patient-vole")
    expect(page.get_by_role("region", name="Agents")).to_contain_text("silent room-server")
    expect(page.get_by_role("region", name="Errors lately")).to_contain_text("SlideError: slide is truncated")
    page.get_by_role("link", name="Hello, World!").click()
    expect(page.get_by_role("region", name="Flows").locator("tbody tr")).to_have_count(1)


def test_height_of_a_bar_grows_with_the_duration(site: Site, page: object) -> None:
    with site.database.write() as conn:
        flow = rows.flow(conn, name="Bars", project="Own")
        for number, pace in enumerate((0.1, 1, 5)):
            rows.run(conn, flow, name=f"bar-{number}", began=-1000 + number, slides=2, pace=pace)
    page.goto(f"{site.url}/default/flow/{flow.group}")
    heights = [each.bounding_box()["height"] for each in page.locator(".bars rect").all()]
    assert heights == sorted(heights) and heights[0] < heights[2] / 2


def test_timeline_shows_a_mapped_task_as_one_bar_split_by_its_children(site: Site, page: object) -> None:
    _, run_id = site.own(states_of=lambda step, index: "Failed" if (step, index) == ("load_image", 1) else "Success")
    page.goto(site.run(run_id))
    row = page.locator(".row", has_text="load_image")
    expect(row.locator("rect")).to_have_count(2)
    done, failed = (each.bounding_box() for each in row.locator("rect").all())
    assert done["width"] == pytest.approx(2 * failed["width"], rel=0.05)
    assert failed["x"] == pytest.approx(done["x"] + done["width"], abs=1)
    expect(row).to_contain_text("1 Failed")
    starts = [page.locator(".row", has_text=step).locator("rect").first.bounding_box()["x"]
              for step in ("load_image", "tissue_segmentation_simple", "identifyBlurryRegions", "save_result")]
    assert starts == sorted(starts)
    names = page.locator(".row .who").all_inner_texts()
    assert len(names) == len(rows.PARAMETERS) + len(rows.MAPPED)
    assert names.index("file_names") < [name.split()[0] for name in names].index("load_image")


def test_timeline_of_a_live_run_reaches_to_the_right_edge(site: Site, page: object) -> None:
    site.change(tables.flow_run, site.ids["live"], state="Running")
    page.goto(site.run("live"))
    row = page.locator(".row", has_text="identifyBlurryRegions")
    track, last = row.locator(".track").bounding_box(), row.locator("rect").last.bounding_box()
    assert last["x"] + last["width"] == pytest.approx(track["x"] + track["width"], abs=2)


def test_schematic_puts_each_task_below_what_it_waits_for(site: Site, page: object) -> None:
    page.goto(site.run("failed", "schematic"))
    cards = {card.locator("b").inner_text(): card.bounding_box() for card in page.locator(".card").all()}
    for step, (before, _) in rows.MAPPED.items():
        assert all(cards[other]["y"] + cards[other]["height"] < cards[step]["y"] for other in before)
    boxes = list(cards.values())
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            assert abs(one["y"] - other["y"]) > 1 or abs(one["x"] - other["x"]) >= one["width"]
    assert page.locator(".edges path").count() == sum(len(before) for before, _ in rows.MAPPED.values())
    expect(page.locator(".card", has_text="load_image").get_by_role("img")).to_have_attribute(
        "aria-label", "14 Success, 2 Failed")
    page.locator(".card", has_text="save_result").click()
    expect(page.locator("h1")).to_have_text("save_result")


def test_schematic_survives_graphs_of_any_shape() -> None:
    from workshop_server.ui.schematic import layout
    assert layout((), ()).cards == {}
    assert layout(("a", "b"), (("a", "b"), ("b", "a"), ("a", "a"), ("a", "gone"))).lines == []
    many = tuple(f"task-{number}" for number in range(300))
    drawing = layout(many, tuple((many[number // 2], many[number]) for number in range(1, 300)))
    places = set(drawing.cards.values())
    assert len(places) == 300 and all(0 <= x <= drawing.width and 0 <= y <= drawing.height for x, y in places)


def test_logs_filter_and_download(site: Site, page: object) -> None:
    page.goto(site.run("failed", "logs"))
    assert page.locator("#log li:visible").count() == 21
    page.get_by_label("At least").select_option("WARNING")
    expect(page.locator("#log li:visible")).to_have_count(2)
    page.get_by_label("with").fill("TRUNCATED")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#log li:visible")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    lines = download.value.path().read_text("utf-8").splitlines()
    assert download.value.suggested_filename == "curious-falcon.log.txt"
    assert "ERROR" in lines[0] and lines[-1].startswith("slideqc.errors.SlideError")
    page.goto(f"{site.run('done', 'logs')}&task={site.ids['flow']}")
    expect(page.locator(".log-empty")).to_be_visible()


def test_long_log_is_shown_from_its_end(site: Site, page: object) -> None:
    _, run_id = site.own()
    with site.database.write() as conn:
        rows.log(conn, run_id, [("INFO", f"line {number}") for number in range(1200)])
    page.goto(site.run(run_id, "logs"))
    expect(page.locator("#log li").last).to_contain_text("line 1199")
    assert page.evaluate("(log => log.scrollTop + log.clientHeight > log.scrollHeight - 5)"
                         "(document.getElementById('log'))")
    page.get_by_role("link", name="Earlier lines").click()
    expect(page.locator("#log li").last).to_contain_text("line 899")


def test_task_runs_filter_and_page(site: Site, page: object) -> None:
    page.goto(site.run("failed", "tasks"))
    expect(page.locator("tbody tr")).to_have_count(100)
    page.get_by_role("link", name="Next").click()
    expect(page.locator("tbody tr")).to_have_count(25)
    page.goto(site.run("failed", "tasks"))
    page.get_by_role("navigation", name="States").get_by_role("link", name=re.compile(r"^Failed")).click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("link", name="load_image [11]").click()
    expect(page.locator("h1")).to_have_text("load_image [11]")
    expect(page.get_by_role("region", name="Downstream")).to_contain_text("tissue_segmentation_simple")
    expect(page.get_by_role("region", name="Mapped siblings").locator("tbody tr")).to_have_count(16)


def test_page_of_a_large_run_costs_no_more_than_that_of_a_small_one(site: Site) -> None:
    with site.database.write() as conn:
        flow = rows.flow(conn, name="Large", project="Own")
        large = rows.run(conn, flow, name="large", slides=700, pace=0.01)
        small = rows.run(conn, flow, name="small", slides=20, pace=0.01)
    for tab in ("timeline", "schematic", "logs", "tasks", "parameters", "artifacts"):
        much, little = (len(urlopen(site.run(run_id, tab)).read()) for run_id in (large, small))
        assert much < 1.2 * little + 10_000, tab


# What it does

def test_run_form_says_what_is_wrong_beside_the_field_and_starts_a_run(site: Site, page: object) -> None:
    page.goto(site.flow("?tab=run"))
    expect(page.get_by_label("image_work_size")).to_have_value("1.25x")
    page.get_by_label("blur_radius").fill("[1, 2")
    page.get_by_label("Context").fill("7")
    page.get_by_role("button", name="Run").click()
    for label, said in (("file_names", "needs a value"), ("blur_radius", "not JSON"), ("Context", "JSON object")):
        box = page.locator(".field", has=page.get_by_label(label))
        expect(box.locator(".error")).to_contain_text(said)
    expect(page.get_by_label("blur_radius")).to_have_value("[1, 2")
    page.get_by_label("file_names").fill('["a.svs", "b.svs"]')
    page.get_by_label("blur_radius").fill("9")
    page.get_by_label("image_work_size").fill("2.5x")
    page.get_by_label("Context").fill('{"room": 7}')
    page.get_by_label("Name", exact=True).fill("by-hand")
    page.get_by_label("Labels").fill("gpu, fast")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("h1")).to_have_text("by-hand")
    expect(page.get_by_role("status").first).to_contain_text("in the queue")
    made = site.row(tables.flow_run, page.url.rpartition("/")[2])
    assert made.parameters == {"file_names": ["a.svs", "b.svs"], "blur_radius": 9, "image_work_size": "2.5x"}
    assert made.context == {"room": 7} and sorted(made.labels) == ["fast", "gpu"] and made.state == "Scheduled"


def test_run_again_brings_the_parameters_of_the_run(site: Site, page: object) -> None:
    page.goto(site.run("done"))
    page.get_by_role("link", name="Run again").click()
    expect(page.get_by_label("file_names")).to_have_value(json.dumps(rows.SLIDES))
    expect(page.get_by_label("output")).to_have_value("/home/ada/workshop/output")


def test_cancel_restart_and_delete_a_run(site: Site, page: object) -> None:
    _, run_id = site.own("Scheduled", began=3600)
    page.goto(site.run(run_id))
    page.get_by_role("button", name="Start now").click()
    expect(page.get_by_role("status").first).to_contain_text("may start now")
    assert site.row(tables.flow_run, run_id).scheduled_start_time <= timestamps.now()
    page.get_by_text("Cancel …").click()
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator(".big")).to_have_text("Cancelled")
    page.get_by_role("button", name="Restart").click()
    expect(page.locator(".big")).to_have_text("Scheduled")
    page.get_by_text("Delete …").click()
    page.get_by_role("button", name="Delete the run").click()
    expect(page.get_by_role("status").first).to_contain_text("The run is deleted")
    assert site.row(tables.flow_run, run_id) is None


def test_what_cannot_be_done_is_said(site: Site, page: object) -> None:
    _, run_id = site.own("Failed")  # its tasks are all well: there is nothing to restart
    page.goto(site.run(run_id))
    page.get_by_role("button", name="Restart").click()
    expect(page.locator(".note.problem:visible")).to_contain_text("nothing to restart")


def test_versions_are_archived_and_deleted_and_the_schedule_is_switched(site: Site, page: object) -> None:
    with site.database.write() as conn:
        old = rows.flow(conn, name="Versions", project="Own", archived=True)
        new = rows.flow(conn, name="Versions", version=2, like=old, schedule=rows.NEXT_DAY)
    page.goto(f"{site.url}/default/flow/{new.group}")
    expect(page.get_by_role("region", name="Schedule")).to_contain_text("every day at 02:00")
    page.get_by_role("switch").click()
    expect(page.get_by_role("switch")).to_have_attribute("aria-checked", "false")
    assert not site.row(tables.flow, new.id).is_schedule_active
    page.get_by_role("switch").click()
    expect(page.get_by_role("switch")).to_have_attribute("aria-checked", "true")
    expect(page.locator(".waits li").first).to_be_visible()  # its next runs are there at once
    page.get_by_role("link", name="Versions", exact=True).click()
    page.get_by_text("Archive …").click()
    page.get_by_role("button", name="Archive version 2").click()
    expect(page.get_by_role("status").first).to_contain_text("archived")
    assert site.row(tables.flow, new.id).archived
    page.locator("tr", has_text="1.4.1").last.get_by_text("Delete …").click()
    page.get_by_role("button", name="Delete version 1").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_text("Delete flow …").click()
    page.get_by_role("button", name="Delete the flow").click()
    expect(page.get_by_role("status").first).to_contain_text("The flow is deleted")
    assert site.row(tables.flow_group, new.group) is None


def test_agents_are_listed_and_removed(site: Site, page: object) -> None:
    with site.database.write() as conn:
        gone = rows.agent(conn, name="gone", seen=-100_000)
        rows.agent(conn, name="alive", seen=0)
    page.goto(f"{site.url}/default/agents")
    expect(page.locator("tr", has_text="alive")).to_contain_text("healthy")
    page.locator("tr", has_text="gone").get_by_text("Remove …").click()
    page.get_by_role("button", name="Remove the agent").click()
    expect(page.locator("tr", has_text="gone")).to_have_count(0)
    assert site.row(tables.agent, gone) is None


def test_messages_are_read_and_deleted_and_lead_to_their_runs(site: Site, page: object) -> None:
    with site.database.write() as conn:
        conn.execute(sa.update(tables.message).values(read=True))
        message = rows.put(conn, tables.message, tenant_id=site.ids["tenant"], type="CLOUD_HOOK", text="the first",
                           content={"flow_run_id": site.ids["done"], "state": "Success"}, created=timestamps.now())
    page.goto(f"{site.url}/default")
    expect(page.get_by_role("link", name="Messages 1 not read")).to_be_visible()
    page.get_by_role("link", name="Messages").click()
    expect(page.locator(".messages li").first).to_contain_text("new the first")
    with site.database.write() as conn:
        rows.put(conn, tables.message, tenant_id=site.ids["tenant"], type="CLOUD_HOOK", text="of a run that is gone",
                 content={"flow_run_id": tables.new_id(), "state": "Failed"}, created=timestamps.now())
    expect(page.locator(".messages li").first).to_contain_text("of a run that is gone")  # it comes by itself
    expect(page.locator(".messages li").first).to_contain_text("The run is deleted.")
    mine = page.locator(f"#m-{message}")
    mine.get_by_role("button", name="Mark as read").press("Enter")
    expect(mine.get_by_role("button", name="Mark as unread")).to_be_visible()
    assert site.row(tables.message, message).read
    mine.get_by_role("button", name="Mark as unread").click()
    expect(mine.get_by_text("new", exact=True)).to_be_visible()
    page.get_by_role("button", name="Mark all as read").click()
    expect(page.get_by_role("link", name="Messages", exact=True)).to_be_visible()
    expect(page.get_by_text("new", exact=True)).to_have_count(0)
    mine.get_by_role("link", name="To the run").click()
    expect(page.locator("h1")).to_have_text("silver-kestrel")
    page.goto(f"{site.url}/default/messages")
    mine.get_by_role("button", name="Delete").click()
    expect(mine).to_have_count(0)
    assert site.row(tables.message, message) is None


def test_hook_is_added_fires_is_switched_off_and_deleted(site: Site, page: object) -> None:
    flow, run_id = site.own("Running")
    page.goto(f"{site.url}/default/messages")
    page.get_by_label("Name").fill("by hand")
    page.get_by_label("Cancelled").check()
    page.get_by_label("Of the flow").select_option(flow.group)
    page.get_by_role("button", name="Add the hook").click()
    expect(page.get_by_role("status").first).to_contain_text("The hook is there")
    mine = page.locator(".hooks li", has_text="by hand")
    expect(mine).to_contain_text("Failed Cancelled")
    made = site.row(tables.cloud_hook, mine.get_attribute("id").removeprefix("h-"))
    assert made.states == ["Failed", "Cancelled"] and made.version_group_id and made.active
    with site.database.write() as conn:
        states.set_flow_run_state(conn, None, run_id, states.make("Failed", "by hand, of course"))
    expect(page.locator(".messages li").first).to_contain_text("is Failed: by hand, of course")
    mine.get_by_role("switch").click()
    expect(mine.get_by_role("switch")).to_have_attribute("aria-checked", "false")
    assert not site.row(tables.cloud_hook, made.id).active
    mine.get_by_text("Delete …").click()
    mine.get_by_role("button", name="Delete the hook").click()
    expect(mine).to_have_count(0)
    page.get_by_label("Failed").uncheck()
    page.get_by_label("Name").fill("of nothing")
    page.get_by_role("button", name="Add the hook").click()
    expect(page.locator(".note.problem:visible")).to_contain_text("needs states")


def test_a_run_that_nobody_takes_says_what_to_type(site: Site, page: object) -> None:
    with site.database.write() as conn:
        flow = rows.flow(conn, name="Stuck", project="Own")
        run_id = rows.run(conn, flow, "Scheduled", name="stuck", began=-300)
        conn.execute(sa.update(tables.flow_run).where(tables.flow_run.c.id == run_id).values(labels=["moon base"]))
        rows.agent(conn, name="on-earth", seen=0)
    for url in (site.run(run_id), f"{site.url}/default/agents"):
        page.goto(url)
        expect(page.locator(".advice", has_text="moon base")).to_contain_text(
            "prefect agent local start --label 'moon base'")


def test_api_page_asks_and_shows_the_schema(site: Site, page: object) -> None:
    page.goto(f"{site.url}/default/api")
    page.get_by_label("Query").fill('{ project(where: {name: {_eq: "Image QC"}}) { name } }')
    page.get_by_label("Query").press("Control+Enter")
    expect(page.locator("#result")).to_contain_text('"name": "Image QC"')
    page.get_by_label("Query").fill("{ nonsense }")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#result")).to_contain_text("errors")
    page.get_by_label("Variables").fill("{")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#result")).to_contain_text("not JSON")
    page.get_by_label("Find a name").fill("create_flow_run")
    page.locator("#types summary", has_text=re.compile("^Mutation$")).click()
    expect(page.locator("#types")).to_contain_text("create_flow_run(input: create_flow_run_input!)")


def test_every_example_of_the_api_page_is_answered(site: Site, page: object) -> None:
    page.goto(f"{site.url}/default/api")
    for name in page.get_by_label("Example").locator("option").all_inner_texts()[1:-1]:
        page.get_by_label("Example").select_option(name)
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#result")).to_contain_text('"data"')
        page.evaluate("document.getElementById('result').textContent = ''")


# Live

def test_page_follows_the_run_and_keeps_what_the_reader_does(site: Site, page: object) -> None:
    _, run_id = site.own("Running", began=-5)
    page.set_viewport_size({"width": 1200, "height": 500})
    page.goto(site.run(run_id))
    page.get_by_text("Delete …").click()
    page.get_by_role("link", name="load_image").focus()
    page.evaluate("window.same = true; scrollTo(0, 100)")
    place = "document.activeElement.getBoundingClientRect().top"
    before = page.evaluate(place)
    site.change(tables.flow_run, run_id, state="Success", state_message="All done.", end_time=timestamps.now())
    expect(page.locator(".big")).to_have_text("Success")
    expect(page).to_have_title(re.compile("^Success"))
    assert page.evaluate("window.same && scrollY > 50") and page.evaluate(place) == pytest.approx(before, abs=80)
    assert page.evaluate("document.activeElement.textContent").startswith("load_image")
    expect(page.get_by_role("button", name="Delete the run")).to_be_visible()
    expect(page.locator(".band.s-Success")).to_have_count(1)


def test_log_lines_are_added_once_each(site: Site, page: object) -> None:
    _, run_id = site.own("Running", began=-5)
    with site.database.write() as conn:
        rows.log(conn, run_id, [("INFO", f"first {number}") for number in range(5)])
    page.goto(site.run(run_id, "logs"))
    expect(page.locator("#log li")).to_have_count(5)
    for word in ("second", "third"):
        with site.database.write() as conn:
            rows.log(conn, run_id, [("INFO", f"{word} {number}") for number in range(5)])
        expect(page.locator("#log li", has_text=word)).to_have_count(5)
    assert page.locator("#log li:visible").count() == 15


def test_page_says_when_the_server_is_gone_and_goes_on_when_it_is_back(site: Site, page: object) -> None:
    page.goto(f"{site.url}/default/agents")
    page.route("**/default/agents", lambda route: route.abort())
    expect(page.locator("#lost")).to_be_visible()
    page.unroute("**/default/agents")
    expect(page.locator("#lost")).to_be_hidden()


def test_times_are_those_of_the_reader(site: Site, browser: object) -> None:
    moment = site.row(tables.flow_run, site.ids["done"]).start_time
    for zone, hours in (("Asia/Tokyo", 9), ("UTC", 0)):
        with watched(browser, timezone_id=zone) as page:
            page.goto(site.run("done"))
            expected = f"{(int(moment[11:13]) + hours) % 24:02}:{moment[14:16]}"
            expect(page.locator(".facts time").first).to_have_attribute("title", re.compile(expected))


# Without a script, without a mouse, without colours

def test_pages_work_without_a_script(site: Site, browser: object) -> None:
    with watched(browser, java_script_enabled=False) as page:
        page.goto(f"{site.url}/default")
        page.get_by_role("region", name="Flows").get_by_role("link", name="Check all slides").click()
        page.get_by_role("link", name="Run", exact=True).click()
        page.get_by_label("file_names").fill("[]")
        page.get_by_role("button", name="Run").click()
        expect(page.locator(".big")).to_have_text("Scheduled")
        page.get_by_role("link", name="Logs").click()
        expect(page.locator(".log-empty")).to_be_visible()


def test_keyboard_reaches_everything_and_shows_where_it_is(site: Site, page: object) -> None:
    page.goto(site.run("done"))
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break  # all round
        text, outline = page.evaluate("[document.activeElement.innerText, "
                                      "getComputedStyle(document.activeElement).outlineStyle]")
        seen.add(text.strip())
        assert outline != "none", text
    assert {"Run again", "Delete …", "Schematic", "Logs"} <= seen


def test_state_colours_are_prefects_and_can_be_read() -> None:
    from prefect.engine import state as prefect_states
    css = (visits.HOME / "static" / "style.css").read_text("utf-8")
    found = dict((name, (colour, ink)) for name, colour, ink in re.findall(
        r"\.s-(\w+) \{ --c: (#\w+); --ink: (#\w+) \}", css))
    assert found.keys() == states.KNOWN
    for name, (colour, ink) in found.items():
        if cls := getattr(prefect_states, name, None):
            assert colour.lower() == cls.color.lower(), name
        assert contrast(colour, ink) >= 4.5, name


def contrast(one: str, other: str) -> float:
    """As the Web Content Accessibility Guidelines define it."""
    lights = sorted((_light(one), _light(other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _light(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at:at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_an_empty_server_says_what_to_type_and_makes_a_project(server: RunningServer, page: object) -> None:
    page.goto(server.ui)
    expect(page.locator(".steps")).to_contain_text("prefect backend server")
    page.get_by_label("Name of the project").fill("Image QC")
    page.get_by_role("button", name="Create it here").click()
    expect(page.locator("h1")).to_have_text("Image QC")
    expect(page.locator(".steps")).to_contain_text('prefect register --project "Image QC"')


# Hostile text

EVIL = ('<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">'
        '"\'><svg onload=alert(1)> {{7*7}} \x1b[31mred\x1b[0m \x07 \u202egnp.exe ' + "w" * 300)


def test_hostile_text_is_shown_and_never_obeyed(site: Site, page: object) -> None:
    with site.database.write() as conn:
        flow = rows.flow(conn, name=f"flow {EVIL}", project=f"project {EVIL}", schedule={"clocks": [
            {"type": EVIL}, {"type": "CronClock", "cron": EVIL, "start_date": {"dt": EVIL, "tz": EVIL}},
            {"type": "IntervalClock", "interval": EVIL, "parameter_defaults": {EVIL: EVIL}}],
            "filters": [{"fn": EVIL}]})
        run_id = rows.run(conn, flow, "Failed", name=f"run {EVIL}", message=f"message {EVIL}", slides=2,
                          began=-1, context={EVIL: EVIL}, run_config={"type": EVIL}, states_of=rows.some_failed)
        conn.execute(sa.update(tables.flow_run).where(tables.flow_run.c.id == run_id).values(
            parameters={EVIL: [EVIL, "\ud800"]}, labels=[EVIL]))
        conn.execute(sa.update(tables.flow).where(tables.flow.c.id == flow.id).values(
            description=EVIL, storage={"type": EVIL}, core_version=EVIL, parameters=[
                {"name": EVIL, "required": False, "default": EVIL}]))
        conn.execute(sa.update(tables.task).where(tables.task.c.flow_id == flow.id).values(
            name=f"task {EVIL}", description=EVIL, trigger=EVIL, type=EVIL))
        conn.execute(sa.update(tables.task_run).where(tables.task_run.c.flow_run_id == run_id).values(
            state_message=EVIL, name=f"task run {EVIL}"))
        child = conn.scalar(sa.select(tables.task_run.c.id).where(tables.task_run.c.flow_run_id == run_id,
                                                                  tables.task_run.c.map_index == 1))
        rows.log(conn, run_id, [("INFO", EVIL), (EVIL[:40], EVIL)], task_run=child)
        rows.agent(conn, name=f"agent {EVIL}", labels=(EVIL,), seen=0)
        told = {"flow_run_id": run_id, "state": EVIL}
        rows.put(conn, tables.message, tenant_id=flow.tenant, type="CLOUD_HOOK", text=f"message {EVIL}", content=told)
        rows.put(conn, tables.message, tenant_id=flow.tenant, type=EVIL, text=EVIL, content={"flow_run_id": EVIL})
        evil_hook = rows.put(conn, tables.cloud_hook, tenant_id=flow.tenant, name=f"hook {EVIL}", type=EVIL,
                             states=[EVIL], version_group_id=flow.group)
        links = ("javascript:alert(1)", "data:text/html,<script>alert(1)</script>", " jAvAscript:alert(1)", EVIL)
        for kind, data in (("markdown", {"markdown": f"{EVIL}\n\n[a](javascript:alert(1)) <b onclick=alert(1)>b</b> "
                                                     "![p](http://192.0.2.1/p.png) [w](https://example.org)"}),
                           (EVIL, {"x": EVIL}), *(("link", {"link": link}) for link in links)):
            rows.put(conn, tables.task_run_artifact, tenant_id=flow.tenant, task_run_id=child, kind=kind, data=data)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    pages = [f"{site.url}/default", f"{site.url}/default?project={flow.project}", f"{site.url}/default/agents",
             f"{site.url}/default/messages", f"{site.url}/default/task-run/{child}", *(
                 f"{site.url}/default/flow/{flow.group}?tab={tab}" for tab in
                 ("overview", "runs", "schematic", "versions", "run")),
             *(site.run(run_id, tab) for tab in ("timeline", "schematic", "logs", "tasks", "parameters", "artifacts"))]
    for url in pages:
        page.goto(url)
        page.evaluate("new Promise(done => setTimeout(done, 50))")
        assert page.title() != "owned", url
        assert "<script>document.title" in page.locator("main").inner_text(), url
        assert page.locator("main :is(script, [onerror], [onload], [onclick], [src^=x])").count() == 0, url
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, url
        protocols = page.locator("main a[href]").evaluate_all("links => links.map(a => a.protocol)")
        assert set(protocols) <= {"http:", "https:"}, url
    assert all(url.startswith((site.url, "data:", "blob:")) for url in asked)
    expect(page.get_by_role("link", name="w", exact=True)).to_have_attribute("href", "https://example.org")
    page.goto(f"{site.run(run_id, 'logs')}&text={'%3Cscript%3E'}&level=%22%3E%3Cscript%3E")
    assert page.title() != "owned"
    with site.database.write() as conn:
        conn.execute(sa.delete(tables.flow_group).where(tables.flow_group.c.id == flow.group))
        conn.execute(sa.delete(tables.cloud_hook).where(tables.cloud_hook.c.id == evil_hook))
        conn.execute(sa.delete(tables.message).where(tables.message.c.text.contains("owned")))


# Behind keys

@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Callable[[str], str]]]:
    """A server that asks for keys, with the workshop of Ada's and nothing of the others'; and their keys."""
    home = tmp_path_factory.mktemp("room")
    file = home / "keys.json"
    made = {name: api_keys.create(file, name) for name in ("Ada", "Bob", "Carol", "Login Health")}
    server = RunningServer(home, "--api-keys", file)
    database = Database(server.database)
    with database.write() as conn:
        ada = conn.scalar(sa.select(tables.tenant.c.id).where(tables.tenant.c.slug == "ada"))
        flow = rows.flow(conn, tenant_id=ada)
        run_id = rows.run(conn, flow, slides=2)
        task_run = conn.scalar(sa.select(tables.task_run.c.id).where(tables.task_run.c.flow_run_id == run_id))
        machine = rows.agent(conn, tenant_id=ada)
        message = rows.put(conn, tables.message, tenant_id=ada, type="CLOUD_HOOK", text="for Ada alone", content={})
        hook = rows.put(conn, tables.cloud_hook, tenant_id=ada, name="Ada's alone", type="WEBHOOK", states=["Failed"])
    yield Site(server, database, {"group": flow.group, "flow": flow.id, "run": run_id, "task_run": task_run,
                                  "agent": machine, "project": flow.project, "message": message,
                                  "hook": hook}), made.__getitem__
    database.close()
    server.stop()


def log_in(page: object, site: Site, key: str, path: str = "") -> None:
    page.goto(site.url + path)
    page.get_by_label("Your API key").fill(key)
    page.get_by_role("button", name="Log in").click()


def test_a_key_that_is_taken_back_closes_its_pages(room: tuple, browser: object) -> None:
    site, key = room
    with watched(browser) as page:
        log_in(page, site, key("Carol"))
        expect(page).to_have_url(f"{site.url}/carol")
        file = Path(site.server.arguments[1])  # the instructor takes Carol's entry out of it
        kept = json.loads(file.read_text())
        kept["keys"] = [entry for entry in kept["keys"] if entry["slug"] != "carol"]
        file.write_text(json.dumps(kept))
        page.goto(f"{site.url}/carol")
        expect(page.get_by_label("Your API key")).to_be_visible()


def test_key_opens_the_pages_of_its_tenant_alone(room: tuple, browser: object) -> None:
    site, key = room
    with watched(browser) as page:
        log_in(page, site, key("Ada"), f"/ada/flow-run/{site.ids['run']}")
        expect(page).to_have_url(f"{site.url}/ada/flow-run/{site.ids['run']}")
        cookie = next(each for each in page.context.cookies() if each["name"] == "session")
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and key("Ada") not in cookie["value"]
        page.get_by_role("link", name="Dashboard").click()
        expect(page.get_by_role("region", name="Flows")).to_contain_text("Check all slides")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Your API key")).to_be_visible()
        assert page.request.get(f"{site.url}/ada", headers={"Cookie": f"session={cookie['value']}"}).url.endswith(
            "/login?next=/ada")
    with watched(browser) as page:
        log_in(page, site, key("Bob"))
        expect(page).to_have_url(f"{site.url}/bob")
        expect(page.locator("main")).not_to_contain_text("Check all slides")
        ids = site.ids
        paths = [f"flow/{ids['group']}", f"flow/{ids['flow']}", f"flow-run/{ids['run']}", f"?project={ids['project']}",
                 f"flow-run/{ids['run']}/log.txt", f"flow-run/{ids['run']}/lines", f"task-run/{ids['task_run']}"]
        for slug in ("bob", "ada"):
            for path in paths:
                answer = page.request.get(f"{site.url}/{slug}{path if path[0] == '?' else f'/{path}'}")
                assert answer.status == 404 and "Image QC" not in answer.text(), (slug, path)
        posts = [f"flow-run/{ids['run']}/{what}" for what in ("start", "cancel", "restart", "delete")] + [
            f"flow/{ids['group']}{what}" for what in ("", "/archive", "/schedule", "/delete-version", "/delete")] + [
            f"agents/{ids['agent']}/remove", "messages/read", "messages/delete", f"hooks/{ids['hook']}/switch",
            f"hooks/{ids['hook']}/delete", "hooks"]
        form = {"flow_id": ids["flow"], "active": "on", "message_id": ids["message"], "read": "on", "name": "n",
                "flow_group_id": ids["group"], "state-Failed": "on"}
        for path in posts:
            answer = page.request.post(f"{site.url}/bob/{path}", form=form, headers={"Origin": site.url})
            assert answer.status == 404, path
        page.goto(f"{site.url}/bob/messages")
        expect(page.locator("main")).not_to_contain_text("alone")
        assert not site.row(tables.message, ids["message"]).read
        answer = page.request.post(f"{site.url}/graphql", data={"query": "{ flow_run { id } }"},
                                   headers={"Origin": site.url})
        assert answer.json() == {"data": {"flow_run": []}}
    assert site.row(tables.flow_run, ids["run"]).state == "Success" and site.row(tables.agent, ids["agent"])


def test_nothing_is_open_without_a_key(room: tuple, browser: object) -> None:
    site, key = room
    with watched(browser) as page:
        ids = site.ids
        for path in ("ada", f"ada/flow-run/{ids['run']}", f"ada/flow-run/{ids['run']}/log.txt", "ada/api",
                     "login-health", f"login-health/flow-run/{ids['run']}"):
            assert page.request.get(f"{site.url}/{path}").url.startswith(f"{site.url}/login?next=")
        for path in (f"ada/flow-run/{ids['run']}/delete", "graphql"):
            answer = page.request.post(f"{site.url}/{path}", data={"query": "{ hello }"}, headers={"Origin": site.url})
            assert answer.status == 401
        for wrong in ("wrong", key("Ada")[:-1], "x" * 400):
            answer = page.request.post(f"{site.url}/login", form={"key": wrong}, headers={"Origin": site.url})
            assert answer.status == 401 and "not known here" in answer.text()
        for target in ("//example.org", "https://example.org", "/\\example.org", "/\t/example.org"):
            answer = page.request.post(f"{site.url}/login", form={"key": key("Ada"), "next": target}, max_redirects=0,
                                       headers={"Origin": site.url})
            assert answer.status == 303 and answer.headers["location"] == "/"


def test_another_site_cannot_press_the_buttons(site: Site, page: object) -> None:
    _, run_id = site.own("Running")
    for headers in ({"Origin": "http://example.org"}, {"Sec-Fetch-Site": "cross-site"}, {}):
        answer = page.request.post(f"{site.run(run_id)}/delete", headers=headers)
        assert answer.status == 403
    assert site.row(tables.flow_run, run_id)


@pytest.mark.parametrize(("expression", "said"), [
    ("* * * * *", "every minute"), ("*/5 * * * *", "every 5 minutes"), ("30 * * * *", "every hour at :30"),
    ("0 2 * * *", "every day at 02:00"), ("15 9 * * 1-5", "Monday to Friday at 09:15"),
    ("0 0 * * 7", "every Sunday at 00:00"), ("0 0 1 */2 *", "cron 0 0 1 */2 *"), ("0 0 * * 1,3", "cron 0 0 * * 1,3"),
    ("0,30 * * * *", "cron 0,30 * * * *"), ("0 8-10 * * *", "cron 0 8-10 * * *")])
def test_common_crons_in_words(expression: str, said: str) -> None:
    from workshop_server.ui.safe_text import crons_in_words
    assert crons_in_words(f"cron {expression} (UTC), on weekdays") == f"{said} (UTC), on weekdays"
    assert crons_in_words(f"every day; cron {expression}") == f"every day; {said}"


def test_ticks_fall_on_round_times() -> None:
    from datetime import UTC, datetime

    from workshop_server.ui.reader_times import ticks
    start = datetime(2026, 11, 22, 14, 17, 35, 500_000, UTC)
    assert [words for _, words in ticks(start, 50, UTC)] == [
        "14:17:40", "14:17:50", "14:18:00", "14:18:10", "14:18:20"]
    assert [words for _, words in ticks(start, 3 * 86400, UTC)][:3] == ["23 Nov", "12:00", "24 Nov"]
    for seconds in (0.1, 0.7, 3, 40, 500, 9_000, 90_000, 4e6, 9e7):
        assert 1 <= len(found := ticks(start, seconds, UTC)) <= 8 and all(0 <= at <= 1 for at, _ in found)
