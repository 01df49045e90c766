"""What a reader does with the page, done in a real browser."""

from __future__ import annotations

import base64
import contextlib
import math
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from georecon.experiments.experiments import Experiments
from georecon.files import read_json, sha256_file
from georecon.records.chain import rerun_command
from tests.reporting.web import toy_site
from tests.reporting.web.conftest import DESKTOP, PHONE, Browser

KEYS = {"tab": "\ue004", "enter": "\ue007", "escape": "\ue00c", "down": "\ue015"}
NUMBER = '#grid-qm9 a[href="#/cell/qm9/georecon/homo"]'
CHAIN_OPEN = "return document.getElementById('chain').open"
SHUT = "return !document.querySelector('dialog[open]')"
FOCUSED = "return document.activeElement.getAttribute('href')"

# the smallest contrast of any visible text to what lies behind it (WCAG 2), and that text
CONTRAST = """
const parse = (text) => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const known = {};
const color = (text) => known[text] ??= parse(text);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, k) => sum + c * [.2126, .7152, .0722][k], 0);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const found = color(getComputedStyle(node).backgroundColor);
    if (found[3] === 255) return found;
  }
  return [255, 255, 255];
};
const open = document.querySelector("dialog[open]");
let worst = [99, ""];
const walker = document.createTreeWalker(open || document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  const box = node.getBoundingClientRect();
  const empty = !walker.currentNode.textContent.trim() || !box.width;
  if (empty || node.closest(".hidden, script, style")) continue;
  const both = [light(color(getComputedStyle(node).color)), light(behind(node))];
  const ratio = (Math.max(...both) + .05) / (Math.min(...both) + .05);
  if (ratio < worst[0]) worst = [ratio, walker.currentNode.textContent.trim().slice(0, 60)];
}
return worst;
"""
# elements that stick out of the window, those that may be scrolled to apart
OVERFLOW = """
const out = [...document.querySelectorAll("body *")].filter((node) =>
  node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".scroll, .canvas, .skip"));
return [document.documentElement.scrollWidth - innerWidth, out.map((n) => n.tagName + n.className)];
"""


def column(browser: Browser, table: str, place: int) -> list[float | None]:
    """Values of a table's column, top to bottom, as its cells state them."""
    texts = browser.run(
        "return [...document.getElementById(arguments[0]).tBodies[0].rows]"
        ".map((row) => row.cells[arguments[1]].dataset.value)", table, place,
    )  # fmt: skip
    return [float(text) if text else None for text in texts]


def shown_rows(browser: Browser, table: str) -> list[str]:
    """Texts of a table's rows that can be seen."""
    return browser.run(
        "return [...document.getElementById(arguments[0]).tBodies[0].rows]"
        ".filter((row) => row.checkVisibility()).map((row) => row.innerText)", table,
    )  # fmt: skip


def test_from_a_number_to_the_raw_file_and_back(
    browser: Browser, address: str, tree: tuple[Path, Experiments]
) -> None:
    browser.open(address)
    browser.find(NUMBER).click()
    browser.wait(CHAIN_OPEN)
    assert browser.driver.current_url == f"{address}#/cell/qm9/georecon/homo"
    titles = [head.text for head in browser.all("#chain .chain h3")]
    assert titles[0] == "Errors on the test molecules"
    assert titles[-1] == "Raw files"
    raw = "resources/raw/qm9/homo.csv"
    station = browser.all("#chain .chain > li")[len(titles) - 1]
    assert raw in station.text
    assert sha256_file(tree[0] / raw) in station.text
    with contextlib.chdir(tree[0]):  # where the page was made: paths in it start there
        rerun = rerun_command("tiny", "qm9/georecon/homo")
    assert browser.find("#chain .command pre").text == rerun
    listed = browser.all("#chain .command pre")[1].text.splitlines()[1:-1]
    assert f"{sha256_file(tree[0] / raw)}  {raw}" in listed
    for line in listed:  # what `sha256sum -c` would find
        sha256, file = line.split("  ")
        assert sha256_file(tree[0] / file) == sha256, file
    browser.driver.back()
    browser.wait(SHUT)
    assert browser.driver.current_url == address
    assert browser.run(FOCUSED) == "#/cell/qm9/georecon/homo"
    assert [line for line in browser.log() if "favicon" not in line] == []


def test_a_chain_has_an_address_of_its_own(browser: Browser, address: str) -> None:
    browser.open(f"{address}#/cell/qm9/georecon/homo")
    browser.wait(CHAIN_OPEN)
    assert "GeoRecon › HOMO" in browser.find("#chain h2").text
    browser.keys(KEYS["escape"])
    browser.wait(SHUT)
    browser.wait("return location.hash === '#top'")
    browser.open(f"{address}#/cell/qm9/georecon/no_such")
    browser.wait(CHAIN_OPEN)
    assert browser.find("#chain h2").text == "Nothing here"


def test_back_goes_through_chains_one_by_one(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    browser.find(NUMBER).click()
    browser.wait(CHAIN_OPEN)
    first = browser.find("#chain h2").text
    browser.run("location.hash = '#/run/0'")
    browser.wait(f"return document.querySelector('#chain h2').textContent !== {first!r}")
    browser.driver.back()
    browser.wait(f"return document.querySelector('#chain h2').textContent === {first!r}")
    browser.run("location.hash = '#/run/0'")
    browser.wait("return location.hash === '#/run/0'")
    browser.find("#chain .close").click()  # closing leaves all of them
    browser.wait("return location.hash === ''")
    browser.wait(SHUT)


def test_facts_of_a_run(browser: Browser, page: Path, tree: tuple[Path, Experiments]) -> None:
    browser.open(f"{page.as_uri()}#/cell/qm9/georecon/homo")
    browser.wait(CHAIN_OPEN)
    run = read_json(tree[0] / "results/tiny/finetune/property/homo/georecon/seed1/run.json")
    text = browser.find("#chain").text
    facts = (run["settings_sha256"], run["code"]["commit"], f"{run['seconds']} s", run["started"])
    for fact in facts:
        assert fact in text
    assert f"steps\n{run['training']['steps']}" in text
    details = browser.find("#chain .link details")
    details.find_element("css selector", "summary").click()
    assert '"package": "qm9pack"' in details.text


def test_sorting_is_numeric_and_has_a_way_back(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    place, table = 3, "all-numbers"
    before = column(browser, table, place)
    head = browser.all(f"#{table} thead button")[place]
    cell = browser.all(f"#{table} thead th")[place]
    empty = before.count(None)
    assert empty > 0
    head.click()
    up = column(browser, table, place)
    numbers = [value for value in up if value is not None]
    assert numbers == sorted(numbers) != [v for v in before if v is not None]
    assert sorted(map(str, numbers)) != [*map(str, numbers)]  # as text, another order
    assert up[len(numbers) :] == [None] * empty
    assert cell.get_attribute("aria-sort") == "ascending"
    head.click()
    down = column(browser, table, place)
    assert down[: len(numbers)] == numbers[::-1]
    assert down[len(numbers) :] == [None] * empty  # empty cells stay last
    head.click()
    assert column(browser, table, place) == before
    assert cell.get_attribute("aria-sort") == "none"


def test_every_table_sorts_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    for table in browser.all("table.sortable"):
        heads = table.find_elements("css selector", "thead th")
        if not heads[-1].is_displayed():
            continue
        browser.run("arguments[0].querySelector('button').focus()", heads[-1])
        browser.keys(KEYS["enter"])
        assert heads[-1].get_attribute("aria-sort") == "ascending"


def test_rows_and_columns_swap(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    rows = "return [...document.getElementById('grid-qm9').rows].map((r) => [...r.cells].map((c) =>"
    texts = f"{rows} c.textContent.trim()))"
    before = browser.run(texts)
    button = browser.find('[data-tools="grid-qm9"] .transpose')
    button.click()
    assert browser.run(texts)[1:] == [list(line) for line in zip(*before, strict=True)][1:]
    browser.all("#grid-qm9 thead button")[1].click()  # still sorts
    values = column(browser, "grid-qm9", 1)
    assert values == sorted(values, key=lambda v: math.inf if v is None else v)
    button.click()
    assert browser.run(texts) == before


def test_filter_keeps_rows_with_all_words(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    every = shown_rows(browser, "all-numbers")
    field = browser.find('[data-tools="all-numbers"] input')
    field.send_keys("GEORECON homo")
    kept = shown_rows(browser, "all-numbers")
    assert kept == [row for row in every if "georecon" in row.lower() and "homo" in row.lower()]
    assert 0 < len(kept) < len(every)
    count = browser.find('[data-tools="all-numbers"] [aria-live]').text
    assert count == f"{len(kept)} of {len(every)} rows"
    field.send_keys(KEYS["escape"])
    assert shown_rows(browser, "all-numbers") == every


@pytest.mark.parametrize(
    ("query", "kind", "hash_after"),
    [
        ("georecon homo QM9 number", "number", "#/cell/qm9/georecon/homo"),
        ("finetune property/homo/georecon/seed1", "run", "#/run/"),
        ("molecule set svg properties", "molecule set", "#set-"),
        ("depth of the decoder table", "table", "#table-decoder_depth"),
    ],
)
def test_search_finds_and_opens(
    browser: Browser, page: Path, query: str, kind: str, hash_after: str
) -> None:
    browser.open(page.as_uri())
    browser.keys("/")
    browser.keys(query)
    browser.wait("return !document.getElementById('found').hidden")
    hits = browser.all("#found a")
    assert hits
    assert hits[0].text.startswith(kind)
    browser.keys(KEYS["down"], KEYS["enter"])
    browser.wait(f"return location.hash.startsWith({hash_after!r})")


def test_search_that_finds_nothing_says_so(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    browser.find("#query").send_keys("zzz")
    assert browser.find("#found").text == "Nothing found"
    browser.keys(KEYS["escape"])
    assert not browser.find("#found").is_displayed()


def test_page_asks_for_nothing_but_itself_and_its_pictures(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.run("document.getElementById('figures').scrollIntoView()")
    browser.wait("return document.querySelector('.figures img').complete")
    assert browser.run("return document.querySelector('.figures img').naturalWidth") == 600
    browser.run("scrollTo(0, 0)")
    browser.find(NUMBER).click()
    browser.wait(CHAIN_OPEN)
    base = address.removesuffix("report/index.html")
    wanted = {address, f"{base}figures/errors_by_method.png"}
    assert {
        url.split("#")[0] for url in browser.requests() if not url.startswith("data:")
    } == wanted
    assert browser.log() == []


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize(
    "place", ["", "#/cell/qm9/georecon/homo", "#/run/3", "#/figure/errors_by_method"]
)
def test_nothing_sticks_out(
    browser: Browser, page: Path, size: tuple[int, int], place: str
) -> None:
    browser.size(*size)
    browser.open(page.as_uri() + place)
    assert browser.run("return innerWidth") == size[0]
    assert browser.run(OVERFLOW) == [0, []]
    browser.run("document.querySelector('main').style.minWidth = '2000px'")  # must be noticed
    assert browser.run(OVERFLOW)[0] > 0 or place


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("place", ["", "#/cell/qm9/georecon/homo"])
def test_text_has_contrast(browser: Browser, page: Path, dark: bool, place: str) -> None:
    browser.media(dark=dark)
    browser.open(page.as_uri() + place)
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 23, 26)" if dark else "rgb(251, 251, 250)"
    )
    ratio, text = browser.run(CONTRAST)
    assert ratio >= 4.5, text
    faint = "#555" if dark else "#aaa"  # must be noticed
    where = "#chain p" if place else "h1"
    browser.run("document.querySelector(arguments[0]).style.color = arguments[1]", where, faint)
    assert browser.run(CONTRAST)[0] < 4.5


def test_theme_is_remembered(browser: Browser, address: str) -> None:
    dark = "return getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 26)'"
    browser.open(address)
    button = browser.find("#theme")
    button.click()
    assert not browser.run(dark)
    button.click()
    assert browser.run(dark)
    browser.driver.refresh()
    assert browser.run(dark)
    browser.find("#theme").click()
    assert not browser.run(dark)  # automatic again, and it is day


def test_all_of_it_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    browser.keys(KEYS["tab"])
    assert browser.run(FOCUSED) == "#main"
    assert browser.run("return document.activeElement.getBoundingClientRect().left") >= 0
    browser.keys(KEYS["enter"])
    assert browser.run("return document.activeElement.id") == "main"
    visible = "return getComputedStyle(document.activeElement).outlineStyle"
    for _ in range(60):
        browser.keys(KEYS["tab"])
        assert browser.run(visible) == "solid"
        if browser.run(FOCUSED) == "#/cell/qm9/georecon/homo":
            break
    else:
        pytest.fail("Tab does not reach the number")
    browser.keys(KEYS["enter"])
    browser.wait(CHAIN_OPEN)
    reached = set()
    for _ in range(6):
        browser.keys(KEYS["tab"])
        reached.add(browser.run("return document.activeElement.getAttribute('aria-label')"))
        assert browser.run("return Boolean(document.activeElement.closest('#chain'))")
    assert {"Close", "Copy rerun command", "Copy check command"} <= reached
    browser.keys(KEYS["escape"])
    browser.wait(SHUT)
    browser.wait("return location.hash === '#main'")
    assert browser.run(FOCUSED) == "#/cell/qm9/georecon/homo"


def test_copy_buttons_copy(browser: Browser, address: str) -> None:
    browser.open(f"{address}#/cell/qm9/georecon/homo")
    browser.wait(CHAIN_OPEN)
    button = browser.find('#chain [aria-label^="Copy sha256"]')
    button.click()
    browser.wait("return document.getElementById('said').textContent.startsWith('Copied')")
    # pasted into a field of the page, as a person would
    browser.keys(KEYS["escape"])
    browser.wait(SHUT)
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.find("#query").click()
    ActionChains(browser.driver).key_down(Keys.CONTROL).send_keys("v").key_up(
        Keys.CONTROL
    ).perform()
    pasted = browser.find("#query").get_attribute("value")
    assert len(pasted) == 64
    assert set(pasted) <= set("0123456789abcdef")


def test_figure_enlarges(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    width = "return document.getElementById('picture').getBoundingClientRect().width"
    browser.find(".figures a.picture").click()
    browser.wait("return document.getElementById('figure').open")
    browser.wait("return document.getElementById('picture').naturalWidth === 600")
    before = browser.run(width)
    browser.keys("+")
    assert browser.run(width) == pytest.approx(1.25 * before, abs=1)
    browser.find('[data-zoom="0.8"]').click()
    assert browser.run(width) == pytest.approx(before, abs=1)
    browser.keys(KEYS["escape"])
    browser.wait(SHUT)


def test_print_shows_tables_and_no_controls(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    browser.media(printing=True)
    for selector in ("nav", ".search", ".tools", "#theme"):
        assert not browser.find(selector).is_displayed()
    assert browser.find("#grid-qm9").is_displayed()


def test_printed_heads_that_come_again_have_their_words(browser: Browser, page: Path) -> None:
    """Chromium leaves out the buttons of a head on all pages but the first."""
    browser.open(page.as_uri())
    browser.media(printing=True)
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    if shutil.which("pdftotext") is None:
        pytest.skip("needs Debian's package poppler-utils")
    pdf = base64.b64decode(printed["data"])
    text = subprocess.run(["pdftotext", "-layout", "-", "-"], input=pdf, capture_output=True,
                          check=True).stdout.decode()  # fmt: skip
    heads = [line for line in text.splitlines() if re.match(r"\s*Table +Row +Column +Number", line)]
    assert len(heads) > 2


def test_a_runs_dialog_draws_its_curve(
    browser: Browser, tree: tuple[Path, Experiments], tmp_path: Path
) -> None:
    root = shutil.copytree(tree[0], tmp_path / "tree")
    rows = "".join(f"{step},{2.0 / step}\n" for step in range(1, 9))
    for curve in root.glob("results/tiny/pretrain/*/seed*/metrics.csv"):
        curve.write_text("step,val_score\n" + rows)
    browser.open(f"{toy_site.write_page(root, tree[1]).as_uri()}#/cell/qm9/georecon/homo")
    browser.wait(CHAIN_OPEN)
    curves = browser.all("#chain svg.curve polyline")
    assert curves
    points = str(curves[0].get_attribute("points")).split()
    heights = [float(point.split(",")[1]) for point in points]
    assert len(points) == 8
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (0.0, 60.0)
    assert "step 1 to 8: 2 to 0.25" in browser.find("#chain .held-out").text
    assert browser.log() == []


def test_paths_in_a_dialog_open_their_files(browser: Browser, address: str) -> None:
    browser.open(f"{address}#/cell/qm9/georecon/homo")
    browser.wait(CHAIN_OPEN)
    link = browser.find("#chain .path a")
    assert link.text.endswith("metrics.json")
    link.click()
    browser.wait("return document.body.textContent.includes('naive_mae')")


def test_hostile_names_are_text(browser: Browser, page: Path, tmp_path: Path) -> None:
    shown = "return document.body.textContent.includes(arguments[0])"
    broken = "return window.broken === undefined"
    browser.open(page.as_uri())
    assert browser.run(shown, toy_site.HOSTILE_LABEL)
    assert browser.run(shown, toy_site.HOSTILE_SET)
    browser.find('#grid-qm9 a[href="#/cell/qm9/coord/homo"]').click()
    browser.wait(CHAIN_OPEN)
    assert toy_site.HOSTILE_LABEL in browser.find("#chain h2").text
    assert browser.run(shown, toy_site.HOSTILE)
    assert browser.run(broken)
    assert browser.all('img[src="x"]') == []
    assert browser.log() == []
    # were escaping to fail once, the policy stops the script; without both it runs
    text = page.read_text()
    leaky = text.replace("<footer>", f"<footer>{toy_site.HOSTILE.removeprefix('</script>')}")
    assert leaky != text
    (tmp_path / "leaky.html").write_text(leaky)
    browser.open((tmp_path / "leaky.html").as_uri())
    assert browser.run(broken)
    assert any("Content Security Policy" in line for line in browser.log())
    (tmp_path / "open.html").write_text(leaky.replace("Content-Security-Policy", "x-none"))
    browser.open((tmp_path / "open.html").as_uri())
    assert not browser.run(broken)


def test_page_of_an_unfinished_run(
    browser: Browser, tree: tuple[Path, Experiments], tmp_path: Path
) -> None:
    root = shutil.copytree(tree[0], tmp_path / "tree")
    (root / "results/tiny/finetune/property/homo/georecon/seed2/metrics.json").unlink()
    state = root / "results/tiny/state/0123456789abcdef"
    toy_site.write_progress(state, "finetune qm9/homo <b>", step=6, score="0.25", time=time.time())
    page = toy_site.write_page(root, tree[1], live=True)
    browser.open(page.as_uri())
    missing = shown_rows(browser, "missing")
    assert missing
    assert all("GeoRecon" in row or "noise" in row or "layers" in row for row in missing)
    assert all("its job has not begun" in row for row in missing)
    (job,) = browser.all("#running tbody tr")
    assert "finetune qm9/homo <b>" in job.text
    assert "6 of 8" in job.text
    assert "0.25" in job.text
    empty = browser.find('#grid-qm9 a[href="#/cell/qm9/georecon/homo"]')
    assert empty.text.startswith("–")
    empty.click()
    browser.wait(CHAIN_OPEN)
    assert "not made yet" in browser.find("#chain .note").text
    assert browser.log() == []
