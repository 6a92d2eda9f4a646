"""The report's page as a reader meets it, in a browser without a window."""

from __future__ import annotations

import json
import re
import shutil
import time

import pytest

import decode_zoo as dz

pytest.importorskip("jinja2")
pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from decode_zoo.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on the path"
)

HOSTILE = "<img src=x onerror=alert(1)>"
GENES = ["ALB", "TTR", "nope", "APOA1", "ALB", HOSTILE, "TTN", "GATA1", "</script><b>", "INS"]


@pytest.fixture(scope="module")
def model():
    return dz.load("gtex-tissue-v1")


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    """Path of a report."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(model, GENES, path, title=HOSTILE)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "force-prefers-reduced-motion",
        "window-size=1280,900",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(service=Service(executable_path=DRIVER), options=options)
    downloads = tmp_path_factory.mktemp("downloads")
    driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}
    )
    driver.downloads = downloads
    yield driver
    driver.quit()


def show(browser, path):
    """Open a page, and wait until its script has drawn."""
    browser.get_log("browser")
    browser.get(path.as_uri())
    WebDriverWait(browser, 10).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "#account svg, #account .empty")
    )
    assert browser.get_log("browser") == []


@pytest.fixture
def opened(browser, page):
    """The browser with the report just opened at 1280 pixels."""
    resize(browser, 1280)
    show(browser, page)
    return browser


def resize(browser, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )


def one(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def text_of(browser, selector):
    return one(browser, selector).text


def column(browser, table, number):
    cells = browser.find_elements(By.CSS_SELECTOR, f"{table} tbody td:nth-child({number})")
    return [cell.text for cell in cells]


def bring(browser, element):
    """Scroll to an element, and wait until the page knows that it was scrolled."""
    browser.execute_async_script(
        "arguments[0].scrollIntoView({block: 'center'});"
        "requestAnimationFrame(() => requestAnimationFrame(arguments[1]))",
        element,
    )


def point(browser, element, x=0, y=0):
    """Move the pointer to an element, off its centre by so many pixels."""
    bring(browser, element)
    ActionChains(browser).move_to_element_with_offset(element, x, y).perform()
    # The driver may scroll once more, which hides what the page told; a reader moves on.
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    ActionChains(browser).move_by_offset(2, 2).perform()


def click(browser, element):
    bring(browser, element)
    element.click()


def natural(name):
    """Sort key: numbers in names count as numbers."""
    parts = re.findall(r"\d+|\D+", name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def heading(browser, table, title):
    buttons = browser.find_elements(By.CSS_SELECTOR, f"{table} thead button")
    return next(button for button in buttons if title in button.text)


def saved(browser, section, name):
    """Click a section's button that saves, and return the rows of the file."""
    file = browser.downloads / name
    file.unlink(missing_ok=True)
    buttons = browser.find_elements(By.CSS_SELECTOR, f"{section} button")
    click(browser, next(button for button in buttons if "TSV" in button.text))
    deadline = time.monotonic() + 10
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]


def test_it_opens_without_complaint_and_without_a_request(browser, page):
    browser.get_log("performance")
    show(browser, page)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    wanted = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert page.as_uri() in wanted
    assert all(url == page.as_uri() or url.startswith("data:") for url in wanted)
    entries = browser.execute_script("return performance.getEntriesByType('resource').length")
    assert entries == 0


def test_hostile_names_are_text(opened):
    assert text_of(opened, "h1") == HOSTILE
    assert HOSTILE in column(opened, "#gene-table", 2)
    assert "</script><b>" in column(opened, "#gene-table", 2)
    assert opened.execute_script("return document.images.length") == 0
    assert opened.execute_script("return document.querySelectorAll('script').length") == 3


def test_it_fits_windows(opened):
    for width in (1280, 800):
        resize(opened, width)
        opened.execute_async_script("setTimeout(arguments[0], 100)")
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_gene_list_sorts_and_narrows(opened):
    assert column(opened, "#gene-table", 2) == GENES
    status = column(opened, "#gene-table", 5)
    assert (status[0], status[2]) == ("ok", "unknown gene")
    assert status[4].startswith("duplicate of")
    heading(opened, "#gene-table", "Symbol").click()
    symbols = column(opened, "#gene-table", 4)
    assert symbols == ["ALB", "ALB", "APOA1", "GATA1", "INS", "TTN", "TTR", "", "", ""]
    head = heading(opened, "#gene-table", "Symbol").find_element(By.XPATH, "..")
    assert head.get_attribute("aria-sort") == "ascending"
    heading(opened, "#gene-table", "Highest change").click()
    values = [float(v.replace("−", "-")) for v in column(opened, "#gene-table", 7) if v]
    assert values == sorted(values, reverse=True)
    search = one(opened, "#gene-table input[type=search]")
    search.send_keys("apoa")
    assert column(opened, "#gene-table", 4) == ["APOA1"]
    assert "1 of 10 rows" in text_of(opened, "#gene-table [role=status]")
    search.send_keys("zzz")
    assert "Nothing found" in text_of(opened, "#gene-table tbody")
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.BACKSPACE)
    Select(one(opened, "#gene-table select")).select_by_value("unknown_gene")
    assert set(column(opened, "#gene-table", 2)) == {"nope", HOSTILE, "</script><b>"}


def test_the_regulators_follow_the_choices(opened):
    before = column(opened, "#regulator-table", 1)
    assert "mean of 53 outputs" in text_of(opened, "#regulator-title")
    output, kind, measure = opened.find_elements(By.CSS_SELECTOR, "#regulator-controls select")
    Select(output).select_by_visible_text("Liver")
    assert "Liver" in text_of(opened, "#regulator-title")
    assert column(opened, "#regulator-table", 1) != before
    sizes = [float(value) for value in column(opened, "#regulator-table", 4)]
    assert sizes == sorted(sizes, reverse=True)
    Select(kind).select_by_value("RBP")
    assert set(column(opened, "#regulator-table", 2)) == {"RBP"}
    Select(measure).select_by_value("mean")
    assert "by mean score" in text_of(opened, "#regulator-title")
    heading(opened, "#regulator-table", "Regulator").click()
    names = column(opened, "#regulator-table", 1)
    assert names == sorted(names, key=natural)
    assert names.index("DDX3X") < names.index("DDX24")
    next_page = one(opened, "#regulator-table button[aria-label='Next page']")
    click(opened, next_page)
    assert natural(column(opened, "#regulator-table", 1)[0]) > natural(names[-1])
    search = one(opened, "#regulator-table input[type=search]")
    search.send_keys(names[0])
    assert names[0] in column(opened, "#regulator-table", 1)


def test_pointing_tells_name_value_and_unit(opened):
    canvas = one(opened, "#prediction-map canvas")
    point(opened, canvas, canvas.size["width"] // 4, canvas.size["height"] // 2 - 12)
    tip = one(opened, "#tip")
    assert tip.is_displayed()
    assert "(ENSG" in tip.text
    assert tip.text.endswith("log2 fold change")
    assert text_of(opened, "#prediction-map .readout") == tip.text
    bar = one(opened, "#regulator-bars g[data-tip]")
    point(opened, bar)
    assert "mean |score|" in tip.text
    assert "log2 fold change" in tip.text


def test_the_heat_map_works_from_the_keyboard(opened):
    frame = one(opened, "#prediction-map .scroll")
    frame.send_keys(Keys.ARROW_DOWN)
    first = text_of(opened, "#prediction-map .readout")
    assert "log2 TPM" in first  # the median comes first, apart
    frame.send_keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    second = text_of(opened, "#prediction-map .readout")
    assert second != first
    assert second.endswith("log2 fold change")
    frame.send_keys(Keys.ENTER)
    gene, output = opened.find_elements(By.CSS_SELECTOR, "#one-controls select")
    shown = Select(gene).first_selected_option.text
    assert second.startswith(f"{shown} · {Select(output).first_selected_option.text}: ")
    assert second.split(": ")[1] in text_of(opened, "#one-title")
    frame.send_keys("c")
    orders = opened.find_elements(By.CSS_SELECTOR, "#prediction-map select")
    assert Select(orders[0]).first_selected_option.text == Select(output).first_selected_option.text
    find = one(opened, "#prediction-map input[type=search]")
    find.send_keys("ttn")
    assert "TTN (ENSG00000155657)" in text_of(opened, "#prediction-map .readout")


def test_one_gene_is_explained(opened):
    gene, output = opened.find_elements(By.CSS_SELECTOR, "#one-controls select")
    assert Select(gene).first_selected_option.text == "ALB (ENSG00000163631)"
    assert len(Select(gene).options) == 6
    Select(output).select_by_visible_text("Whole Blood")
    assert "predicted in Whole Blood" in text_of(opened, "#one-title")
    assert "log2 fold change" in text_of(opened, "#account")
    assert "Prediction − reference − sum of scores" in text_of(opened, "#account")
    assert "Whole Blood is number" in text_of(opened, "#across")
    places = text_of(opened, "#places")
    for word in ("TSS", "−2000", "+1000", "RNA", "All regulators"):
        assert word in places
    listed = column(opened, "#one-table", 2)
    assert len(listed) == 15
    assert all(name in places for name in listed)
    Select(output).select_by_visible_text("Median expression")
    assert "log2 TPM" in text_of(opened, "#account")
    buttons = opened.find_elements(By.CSS_SELECTOR, "#gene-table tbody button")
    click(opened, buttons[1])
    assert Select(gene).first_selected_option.text.startswith("TTR")
    cell = one(opened, "#places rect[data-tip]")
    assert "log2" in cell.get_attribute("data-tip")


def test_tables_are_saved_as_they_are(opened, model):
    table = model.predict(GENES, backend="numpy")
    rows = saved(opened, "#predictions", f"{model.id}.predictions.tsv")
    assert rows[0] == list(table.columns)
    assert [row[:3] for row in rows[1:]] == table.iloc[:, :3].to_numpy().tolist()
    for row, expected in zip(rows[1:], table[model.outputs].to_numpy().tolist(), strict=True):
        for cell, value in zip(row[3:], expected, strict=True):
            assert cell == "" if value != value else float(cell) == float(f"{value:.6g}")
    output, *_ = opened.find_elements(By.CSS_SELECTOR, "#regulator-controls select")
    Select(output).select_by_visible_text("Liver")
    head, *rows = saved(opened, "#regulator-table", f"{model.id}.regulators.Liver.tsv")
    scores = ["Mean score (log2 fold change)", "Mean |score| (log2 fold change)"]
    assert head == ["Regulator", "Class", *scores, "With sites (genes)"]
    summary = model.explain(GENES, outputs=["Liver"]).summary()
    summary = summary[summary["n_genes"] > 0].set_index(["regulator", "class"])
    assert len(rows) == (summary.index.get_level_values("class") != "mask").sum()
    for regulator, kind, *numbers in rows:
        expected = summary.loc[regulator, kind][["mean", "mean_abs", "n_genes"]].tolist()
        assert [float(n) for n in numbers] == pytest.approx(expected, rel=1e-5, abs=1e-9)
    head, *rows = saved(opened, "#one-controls", f"{model.id}.ALB.Liver.positions.tsv")
    ends = ["start (0-based)", "end (exclusive)", "score (log2 fold change)"]
    assert head[3:] == ["class", "regulator", "side", *ends]
    assert {row[5] for row in rows} <= {"promoter", "rna"}
    strongest = saved(opened, "#one-table", f"{model.id}.ALB.Liver.strongest.tsv")
    placed = sum(float(row[8]) for row in rows if row[4] == strongest[1][1])
    assert placed == pytest.approx(float(strongest[1][3]), abs=0.005)


@pytest.mark.parametrize(
    ("genes", "outputs"),
    [
        (["ALB"], ["median_log2_tpm"]),
        (["ALB", "TTR"], ["Liver"]),
        (["nope"], None),
        ([], ["Liver", "median_log2_tpm"]),
        (["SNORD99"], None),  # without any site of a regulator
    ],
)
def test_odd_lists_open_without_complaint(browser, toy_models, genes, outputs, tmp_path):
    path = tmp_path / "report.html"
    write_report(toy_models["decode"], genes, path, outputs=outputs)
    show(browser, path)
    assert len(column(browser, "#gene-table", 2)) == len(genes)
    for button in browser.find_elements(By.CSS_SELECTOR, "#gene-table tbody button"):
        click(browser, button)
    assert browser.get_log("browser") == []
