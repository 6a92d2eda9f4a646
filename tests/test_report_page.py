"""The report's page as a reader meets it, in a browser without a window."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
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

from decode_zoo.pages.report import write_report

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


def resize(browser, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )


@pytest.fixture
def opened(browser, page):
    """The browser with the report just opened at 1280 pixels."""
    resize(browser, 1280)
    show(browser, page)
    return browser


def one(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def text_of(browser, selector):
    return one(browser, selector).text


def selects(browser, section):
    return [Select(found) for found in browser.find_elements(By.CSS_SELECTOR, f"{section} select")]


def shown(select):
    return select.first_selected_option.text


def column(browser, table, number):
    cells = browser.find_elements(By.CSS_SELECTOR, f"{table} tbody td:nth-child({number})")
    return [cell.text for cell in cells]


def button(browser, section, title):
    found = browser.find_elements(By.CSS_SELECTOR, f"{section} button")
    return next(button for button in found if title in button.text)


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


def saved(browser, section, name):
    """Click a section's button that saves, and return the rows of the file."""
    file = browser.downloads / name
    click(browser, button(browser, section, "TSV"))
    WebDriverWait(browser, 10, 0.02).until(lambda _: file.exists())
    return [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]


def natural(name):
    """Sort key: numbers in names count as numbers."""
    parts = re.findall(r"\d+|\D+", name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def test_it_opens_without_a_request_and_hostile_names_are_text(browser, page):
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
    for count in (
        "performance.getEntriesByType('resource').length",
        "document.images.length",
        "document.querySelectorAll('script').length - 3",
    ):
        assert browser.execute_script(f"return {count}") == 0
    assert text_of(browser, "h1") == HOSTILE
    assert column(browser, "#gene-table", 2) == GENES
    for width in (1280, 800):
        resize(browser, width)
        browser.execute_async_script("setTimeout(arguments[0], 100)")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_gene_list_sorts_and_narrows(opened):
    status = column(opened, "#gene-table", 5)
    assert (status[0], status[2]) == ("ok", "unknown gene")
    assert status[4].startswith("duplicate of")
    heading = button(opened, "#gene-table thead", "Symbol")
    heading.click()
    symbols = column(opened, "#gene-table", 4)
    assert symbols == ["ALB", "ALB", "APOA1", "GATA1", "INS", "TTN", "TTR", "", "", ""]
    heading = button(opened, "#gene-table thead", "Symbol").find_element(By.XPATH, "..")
    assert heading.get_attribute("aria-sort") == "ascending"
    button(opened, "#gene-table thead", "Highest change").click()
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
    selects(opened, "#gene-table")[0].select_by_value("unknown_gene")
    assert set(column(opened, "#gene-table", 2)) == {"nope", HOSTILE, "</script><b>"}


def test_the_regulators_follow_the_choices(opened):
    before = column(opened, "#regulator-table", 1)
    assert "mean of 53 outputs" in text_of(opened, "#regulator-title")
    output, kind, measure = selects(opened, "#regulator-controls")
    output.select_by_visible_text("Liver")
    assert "Liver" in text_of(opened, "#regulator-title")
    assert column(opened, "#regulator-table", 1) != before
    sizes = [float(value) for value in column(opened, "#regulator-table", 4)]
    assert sizes == sorted(sizes, reverse=True)
    kind.select_by_value("RBP")
    assert set(column(opened, "#regulator-table", 2)) == {"RBP"}
    measure.select_by_value("mean")
    assert "by mean score" in text_of(opened, "#regulator-title")
    button(opened, "#regulator-table thead", "Regulator").click()
    names = column(opened, "#regulator-table", 1)
    assert names == sorted(names, key=natural)
    assert names.index("DDX3X") < names.index("DDX24")
    click(opened, one(opened, "#regulator-table button[aria-label='Next page']"))
    assert natural(column(opened, "#regulator-table", 1)[0]) > natural(names[-1])
    one(opened, "#regulator-table input[type=search]").send_keys(names[0])
    assert names[0] in column(opened, "#regulator-table", 1)


def test_pointing_tells_name_value_and_unit(opened):
    canvas = one(opened, "#prediction-map canvas")
    point(opened, canvas, canvas.size["width"] // 4, canvas.size["height"] // 2 - 12)
    tip = one(opened, "#tip")
    assert tip.is_displayed()
    assert "(ENSG" in tip.text
    assert tip.text.endswith("log2 fold change")
    assert text_of(opened, "#prediction-map .readout") == tip.text
    point(opened, one(opened, "#regulator-bars g[data-tip]"))
    assert "mean |score|" in tip.text
    assert "log2 fold change" in tip.text


def test_the_heat_map_works_from_the_keyboard(opened):
    frame, readout = one(opened, "#prediction-map .scroll"), "#prediction-map .readout"
    frame.send_keys(Keys.ARROW_DOWN)
    first = text_of(opened, readout)
    assert "log2 TPM" in first  # the median comes first, apart
    frame.send_keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    second = text_of(opened, readout)
    assert second != first
    assert second.endswith("log2 fold change")
    frame.send_keys(Keys.ENTER)
    gene, output = selects(opened, "#one-controls")
    assert second.startswith(f"{shown(gene)} · {shown(output)}: ")
    assert second.split(": ")[1] in text_of(opened, "#one-title")
    frame.send_keys("c")
    assert shown(selects(opened, "#prediction-map")[0]) == shown(output)
    one(opened, "#prediction-map input[type=search]").send_keys("ttn")
    assert "TTN (ENSG00000155657)" in text_of(opened, readout)


def test_one_gene_is_explained(opened):
    gene, output = selects(opened, "#one-controls")
    assert shown(gene) == "ALB (ENSG00000163631)"
    assert len(gene.options) == 6
    output.select_by_visible_text("Whole Blood")
    assert "predicted in Whole Blood" in text_of(opened, "#one-title")
    assert "log2 fold change" in text_of(opened, "#account")
    assert "Prediction − reference − sum of scores" in text_of(opened, "#account")
    assert "Whole Blood is number" in text_of(opened, "#across")
    places, listed = text_of(opened, "#places"), column(opened, "#one-table", 2)
    assert len(listed) == 15
    for word in ("TSS", "−2000", "+1000", "RNA", "All regulators", *listed):
        assert word in places
    output.select_by_visible_text("Median expression")
    assert "log2 TPM" in text_of(opened, "#account")
    click(opened, opened.find_elements(By.CSS_SELECTOR, "#gene-table tbody button")[1])
    assert shown(gene).startswith("TTR")
    assert "log2" in one(opened, "#places rect[data-tip]").get_attribute("data-tip")


def test_tables_are_saved_as_they_are(opened, model):
    table = model.predict(GENES, backend="numpy")
    head, *rows = saved(opened, "#predictions", f"{model.id}.predictions.tsv")
    assert head == list(table.columns)
    assert [row[:3] for row in rows] == table.iloc[:, :3].to_numpy().tolist()
    found = [[float(cell or "nan") for cell in row[3:]] for row in rows]
    expected = [[float(f"{x:.6g}") for x in row] for row in table[model.outputs].to_numpy()]
    np.testing.assert_array_equal(found, expected)
    selects(opened, "#regulator-controls")[0].select_by_visible_text("Liver")
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
