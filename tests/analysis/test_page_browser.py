"""A study's page in a browser: sorted, filtered, compared, dark, narrow, without script."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import made_up_page as made
import pytest
from made_up_teaching import teaching
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_car import measured_of
from test_car_page import about, settings

from heed.analysis.car_page import write_ranking
from heed.analysis.script import SCRIPT

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no headless Chromium (Debian: chromium, chromium-driver)"
)
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--window-size=1300,900",
)  # fmt: skip
HOSTILE = "</script><img src=x onerror=\"document.title='broken'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    os.environ.setdefault("NO_PROXY", "localhost,127.0.0.1")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    outputs = tmp_path_factory.mktemp("outputs")
    return made.write_outputs(outputs, made.rerun(), teaching=teaching())


@pytest.fixture
def page(browser, path) -> webdriver.Chrome:
    """The page anew: wide, light, with script."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    scheme(browser, "light")
    browser.get("about:blank")
    browser.get(path.as_uri())
    return browser


def scheme(browser: webdriver.Chrome, name: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": name}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def head(page: webdriver.Chrome, table: str, text: str):
    heads = page.find_elements(By.CSS_SELECTOR, f"#{table} thead th")
    return next(one for one in heads if one.get_attribute("textContent").startswith(text))


def press(page: webdriver.Chrome, table: str, text: str) -> None:
    """Click a head where it is not below the bar that stays in sight."""
    button = head(page, table, text).find_element(By.TAG_NAME, "button")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()


def column(page: webdriver.Chrome, table: str, text: str, key: str = "textContent") -> list[str]:
    """What stands in a column's visible rows, from above; `key` may be a `data-` attribute."""
    code = """
      const [table, text, key] = arguments;
      const heads = [...document.querySelectorAll(`#${table} thead th`)];
      const place = heads.findIndex(head => head.textContent.startsWith(text));
      return [...document.querySelectorAll(`#${table} tbody tr:not([hidden])`)].map(row =>
        key === "textContent" ? row.cells[place].textContent.trim()
                              : row.cells[place].getAttribute(key));"""
    return page.execute_script(code, table, text, key)


def pick(page: webdriver.Chrome, name: str, value: str) -> None:
    code = """
      const select = document.querySelector(`#filter select[name="${arguments[0]}"]`);
      select.value = arguments[1]; select.dispatchEvent(new Event("change"));"""
    page.execute_script(code, name, value)


def shown(page: webdriver.Chrome) -> str:
    return page.find_element(By.ID, "count").text


def test_a_click_sorts_by_value_and_a_second_one_the_other_way(page):
    delta = head(page, "cells", "delta")
    assert delta.get_attribute("aria-sort") is None
    for direction, backwards in (("ascending", False), ("descending", True)):
        delta.find_element(By.TAG_NAME, "button").click()
        assert delta.get_attribute("aria-sort") == direction
        values = [float(v) for v in column(page, "cells", "delta", "data-value")]
        assert len(values) == 21
        assert values == sorted(values, reverse=backwards)


def test_gains_and_losses_are_sorted_by_value_through_zero(page):
    press(page, "types", "group_1")
    values = [float(v) for v in column(page, "types", "group_1", "data-value")]
    assert values == sorted(values)
    assert values[0] < -0.01 < 0.1 < values[-1]


def test_enter_sorts_too_and_a_rate_is_sorted_by_its_peak(page):
    head(page, "cells", "learning rate").find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    names = [text.split()[0] for text in column(page, "cells", "learning rate")]
    assert list(dict.fromkeys(names)) == ["gentle", "reference", "aggressive"]
    head(page, "cells", "student").find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert head(page, "cells", "learning rate").get_attribute("aria-sort") is None
    assert list(dict.fromkeys(column(page, "cells", "student"))) == ["micro", "mini", "nano"]


def test_numbers_with_a_unit_are_sorted_as_numbers_and_nothing_comes_last(page):
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    press(page, "costs", "time in all")
    assert column(page, "costs", "time in all")[0] == "1 min 2 s"
    for _ in range(2):
        press(page, "contrasts", "second - first")
        assert column(page, "contrasts", "second - first")[-1] == ""


def test_tables_on_teachers_are_sorted_as_the_others_are(page):
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    for table, text in (("rhos", "nano"), ("betas", "1"), ("teachers-0", "CAR")):
        press(page, table, text)
        values = [float(v) for v in column(page, table, text, "data-value")]
        assert len(values) > 1
        assert values == sorted(values)


def test_every_table_with_several_rows_of_numbers_is_sorted_and_no_other(page):
    code = """
      const buttons = [...document.querySelectorAll("table")].map(table =>
        [table.tBodies[0].rows.length > 1 && table.querySelector("td[data-value]") !== null,
         table.querySelectorAll("thead .sort").length === table.tHead.rows[0].cells.length]);
      return buttons.filter(([can, does]) => can !== does).length;"""
    assert page.execute_script(code) == 0


def test_a_ranking_of_teachers_is_sorted_too_also_by_rank(page, tmp_path):
    measured = measured_of(teachers=12)
    write_ranking(tmp_path, measured, settings(), about(measured))
    page.get((tmp_path / "report.html").as_uri())
    for text in ("loss", "rank"):
        press(page, "ranking", text)
        values = [float(v) for v in column(page, "ranking", text, "data-value")]
        assert values == sorted(values)
        assert len(values) == 12
    assert page.get_log("browser") == []


def test_a_filter_holds_in_every_table_and_the_rows_are_counted(page):
    assert shown(page) == "21 of 21 cells shown"
    pick(page, "student", "micro")
    assert shown(page) == "9 of 21 cells shown"
    for table in ("cells", "forms", "beside", "costs"):
        assert column(page, table, "student") == ["micro"] * 9
    assert len(column(page, "types", "cell")) == 9
    pick(page, "lr", "aggressive (1e-2)")
    assert shown(page) == "3 of 21 cells shown"
    page.find_element(By.CSS_SELECTOR, "#filter button").click()
    assert shown(page) == "21 of 21 cells shown"


def test_text_is_found_in_cells_and_what_is_said_of_several_follows_them(page):
    run = made.rerun()[4]["run"]
    search = page.find_element(By.CSS_SELECTOR, "#filter input")
    search.send_keys(run.upper())
    assert shown(page) == "1 of 21 cells shown"
    search.clear()
    search.send_keys("micro")
    assert column(page, "contrasts", "second - first") == ["+0.043 [+0.011, +0.075]", ""]
    assert column(page, "rates", "student") == ["micro"]
    assert column(page, "analysis-0", "student") == ["micro"] * 9
    pairs = list(
        zip(*(column(page, "analysis-0-pairs", n) for n in ("first", "second")), strict=True)
    )
    assert pairs[:2] == [("nano", "micro"), ("micro", "mini")]
    search.clear()
    search.send_keys("sure")  # the best control: in every cell, and in no contrast
    assert shown(page) == "21 of 21 cells shown"
    assert [len(column(page, table, "metric")) for table in ("contrasts", "rates")] == [3, 3]
    search.clear()
    search.send_keys("in no cell")
    assert [len(column(page, table, "metric")) for table in ("contrasts", "rates")] == [0, 0]


def test_a_contrast_that_cannot_be_told_goes_with_its_cells(page):
    pick(page, "student", "nano")
    assert column(page, "contrasts", "second - first") == [
        "+0.043 [+0.011, +0.075]", "-0.004 [-0.030, +0.021]"
    ]  # fmt: skip


DRAWN = """
  return [...document.querySelectorAll("figure")].filter(figure => figure.offsetParent !== null)
    .map(figure => [figure.querySelector(".drawn").getAttribute("aria-label"),
      [...figure.querySelectorAll("[data-drawn]")]
        .filter(part => getComputedStyle(part).display !== "none")
        .map(part => part.dataset.drawn.split(" "))]);"""


def drawn(page: webdriver.Chrome) -> dict[str, list[list[str]]]:
    """Words of each visible figure -> the runs of each of its visible parts that have some."""
    return dict(page.execute_script(DRAWN))


def test_figures_follow_the_filter_and_no_line_stands_for_what_is_hidden(page):
    whole = drawn(page)
    assert len([words for words in whole if "learning rate" in words]) == 6
    told = page.find_elements(By.CSS_SELECTOR, "[data-filtered]")
    assert told
    assert not any(note.is_displayed() for note in told)
    pick(page, "student", "micro")
    found = drawn(page)
    own = {r["run"] for r in made.rerun() if r["student"] == "micro"}
    assert len([words for words in found if "learning rate" in words]) == 2
    assert {run for parts in found.values() for part in parts for run in part} == own
    micro = f"Delta of {made.PRIMARY} by learning rate, student micro."
    assert found[micro] == whole[micro]
    lines = [part for part in whole[micro] if len(part) > 1]
    assert len(lines) == 4, "the means, the fitted curve, where its top may lie, and the top"
    assert all(note.is_displayed() for note in told)
    pick(page, "seed", "1")
    first = {r["run"] for r in made.rerun() if r["seed"] == 1}
    points = [part for part in whole[micro] if set(part) <= first]
    assert drawn(page)[micro] == points
    assert len(points) == 6, "a point and a bar for each of three rates"
    page.find_element(By.CSS_SELECTOR, "#filter button").click()
    assert drawn(page) == whole


def test_published_values_go_with_the_cells_that_they_stand_beside(page):
    assert [name[:4] for name in column(page, "published", "here")] == ["", "nano", "nano"]
    pick(page, "seed", "1")
    assert [name[:4] for name in column(page, "published", "here")] == ["", "nano"]
    assert column(page, "published", "source") == ["a paper", ""]
    pick(page, "student", "mini")
    assert column(page, "published", "here") == []


OUTSIDE = """
  return [...document.querySelectorAll("figure svg")].flatMap(svg => {
    const box = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].filter(text => {
      const own = text.getBoundingClientRect();
      return own.left < box.left - 1 || own.right > box.right + 1
        || own.top < box.top - 1 || own.bottom > box.bottom + 1;
    }).map(text => text.textContent);
  });"""


def test_no_text_of_a_figure_is_cut_off_at_its_edge(page):
    assert page.execute_script(OUTSIDE) == []


def test_what_is_filtered_stands_in_the_address_and_a_wrong_address_hides_nothing(page, path):
    pick(page, "student", "mini")
    address = page.current_url
    assert address.endswith("#student=mini")
    page.get("about:blank")
    page.get(address)
    assert shown(page) == "6 of 21 cells shown"
    page.get("about:blank")
    page.get(f"{path.as_uri()}#student=nobody")
    assert shown(page) == "21 of 21 cells shown"


@pytest.mark.parametrize(
    ("one", "two", "said", "warned"),
    [
        (("nano", "gentle"), ("nano", "reference"), "differ in lr alone", False),
        (("nano", "gentle"), ("micro", "aggressive"), "differ in student and lr", True),
    ],
)
def test_two_cells_that_differ_in_more_than_one_axis_are_flagged(page, one, two, said, warned):
    pair = page.find_element(By.ID, "pair")
    for student, lr in (one, two):
        run = next(r["run"] for r in made.rerun() if (r["student"], r["lr"]) == (student, lr))
        page.find_element(By.CSS_SELECTOR, f'[aria-label="compare run {run}"]').click()
    assert said in pair.text
    assert ("Confounded" in pair.text, pair.get_attribute("class") == "warning") == (warned,) * 2


def test_every_link_is_relative_and_leads_to_what_exists(page, path):
    links = page.execute_script(
        "return [...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
    )
    assert len(set(links)) > 21
    for link in set(links):
        assert not re.match(r"[a-z]+:|/", link), link
        assert (path.parent / unquote(urlsplit(link).path)).exists(), link


COLOURS = """
  const under = node => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const chosen = ["h1", "p", ".answer", ".warning", ".note", "#cells td", "#cells small", "a",
    "figcaption", "svg text", ".heat td.g5", ".heat td.l4", "pre", "th", ".verdict.helped",
    ".verdict.cannot-tell", "select"];
  return chosen.map(name => {
    const node = document.querySelector(name);
    const style = getComputedStyle(node);
    return [name, node.closest("svg") ? style.fill : style.color, under(node)];
  });"""


def luminance(colour: str) -> float:
    numbers = [float(n) for n in re.findall(r"[\d.]+", colour.replace("srgb", ""))][:3]
    parts = numbers if colour.startswith("color(") else [n / 255 for n in numbers]
    parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_in_the_dark_paper_is_dark_and_all_texts_stand_out(page):
    papers = {}
    for name in ("light", "dark"):
        scheme(page, name)
        found = page.execute_script(COLOURS)
        papers[name] = luminance(dict((what, paper) for what, _, paper in found)["p"])
        for what, ink, paper in found:
            high, low = sorted((luminance(ink), luminance(paper)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, what, ink, paper)
    assert papers["light"] > 0.9
    assert papers["dark"] < 0.05


@pytest.mark.parametrize("width", [390, 320])
def test_a_narrow_page_is_not_scrolled_sideways_but_its_tables_are(page, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    code = "return [document.documentElement.scrollWidth, window.innerWidth]"
    whole, seen = page.execute_script(code)
    assert seen == width
    assert whole <= seen
    inside, box = page.execute_script(
        "const box = document.querySelector('#cells').parentNode;"
        "return [box.scrollWidth, box.clientWidth]"
    )
    assert inside > box
    assert page.find_element(By.CSS_SELECTOR, "#filter select").is_displayed()
    lines = """return [...document.querySelectorAll("[data-cell] code, .runs code")]
      .filter(code => code.getClientRects().length > 1).length"""
    assert page.execute_script(lines) == 0, "an id of a run stands in one line"


def test_without_script_every_cell_is_there_and_no_dead_control(page, path):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.get("about:blank")
    page.get(path.as_uri())
    assert len(page.find_elements(By.CSS_SELECTOR, "#cells tbody tr")) == 21
    assert not page.find_elements(By.TAG_NAME, "button")
    assert not page.find_element(By.ID, "filter").is_displayed()
    assert not page.find_element(By.ID, "pair").is_displayed()


def test_nothing_is_asked_of_a_network_and_nothing_fails(page, path):
    page.get_log("browser")
    page.get_log("performance")
    page.get(f"{path.as_uri()}?anew")
    pick(page, "student", "mini")
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [
        one["params"]["request"]["url"]
        for one in sent
        if one["method"] == "Network.requestWillBeSent"
    ]
    assert urls == [f"{path.as_uri()}?anew"]
    assert page.get_log("browser") == []


def test_a_hostile_study_runs_nothing_and_can_still_be_filtered(page, tmp_path):
    cells = [made.result(HOSTILE, "gentle", 1), made.result("nano", "gentle", 1)]
    cells = [one | {"directory": f"runs/{one['run']}"} for one in cells]
    told = {"name": "x", "question": HOSTILE, "axes": {"model": [HOSTILE, "nano"]}}
    page.get(made.write_outputs(tmp_path, cells, **told).as_uri())
    pick(page, "student", HOSTILE)
    assert shown(page) == "1 of 2 cells shown"
    assert page.title == f"x: {HOSTILE}"
    assert not page.find_elements(By.TAG_NAME, "img")
    assert HOSTILE in page.find_element(By.TAG_NAME, "h1").text
    assert page.get_log("browser") == []


def test_a_page_of_one_cell_has_nothing_to_compare(page, tmp_path):
    page.get(made.write_outputs(tmp_path, [made.result("nano", "gentle", 1)]).as_uri())
    assert shown(page) == "1 of 1 cells shown"
    assert not page.find_element(By.ID, "pair").is_displayed()
    assert page.get_log("browser") == []


def test_the_script_reads_no_address_but_its_own_and_loads_nothing():
    assert not re.search(r"fetch|XMLHttp|import\(|eval|innerHTML|document\.write", SCRIPT)
