"""The page in a real browser: Debian's chromium and chromium-driver."""

import json
import shutil

import pytest

chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
webdriver = pytest.importorskip("selenium.webdriver")
pytestmark = pytest.mark.skipif(
    not (chromium and driver), reason="no chromium and chromedriver: the page was not looked at"
)


@pytest.fixture
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield window
    window.quit()


@pytest.fixture
def page(browser, files):
    browser.set_window_size(1280, 1000)
    browser.get((files / "report.html").as_uri())
    return browser


def _column(page, table, column):
    script = "return [...document.querySelectorAll('table.sortable')[arguments[0]].tBodies[0].rows]"
    return page.execute_script(script + ".map(r => r.cells[arguments[1]].innerText)", table, column)


def test_no_errors_and_no_requests(page):
    assert page.execute_script("return document.querySelectorAll('.js-plotly-plot').length") == 7
    assert [entry for entry in page.get_log("browser") if entry["level"] != "INFO"] == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_tables_sort(page):
    head = page.find_elements("css selector", "table.sortable th button")[1]
    names = _column(page, 0, 0)
    head.click()
    down = [float(text.split()[0]) for text in _column(page, 0, 1)]
    assert down == sorted(down, reverse=True)
    head.click()
    assert [float(text.split()[0]) for text in _column(page, 0, 1)] == down[::-1]
    assert sorted(_column(page, 0, 0)) == sorted(names)
    assert page.execute_script("return arguments[0].closest('th').ariaSort", head) == "ascending"


def test_hover_shows_values(page):
    place = page.find_element("id", "differences")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", place)
    point = place.find_elements("css selector", ".scatterlayer .points path")[1]
    webdriver.ActionChains(page).move_to_element(point).pause(1).perform()
    text = "".join(one.text for one in place.find_elements("css selector", ".hoverlayer text"))
    assert "seed" in text or "mean" in text


def test_reads_well_on_a_phone(page):
    emulate = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", emulate)
    page.refresh()
    root = "document.documentElement"
    assert page.execute_script(f"return {root}.scrollWidth") <= 390
    widths = page.execute_script(
        "return [...document.querySelectorAll('.plot')].map(p => p.getBoundingClientRect().width)"
    )
    assert all(300 < width <= 390 for width in widths)
    size = page.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)")
    assert size >= 15
