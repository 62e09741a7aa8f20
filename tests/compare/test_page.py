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
    assert page.execute_script("return document.querySelectorAll('.plot > svg').length") == 3
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
    tip = page.find_element("id", "tip")
    for place, says in (("differences", "sk, seed 0: "), ("curves", "sk, epoch 15: ")):
        mark = page.find_element("css selector", f"#{place} [data-tip^='{says}']")
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
        webdriver.ActionChains(page).move_to_element(mark).pause(0.2).perform()
        assert tip.is_displayed()
        assert tip.text.startswith(says)
    webdriver.ActionChains(page).move_to_element(page.find_element("tag name", "h1")).perform()
    assert not tip.is_displayed()


def test_a_click_singles_a_variant_out(page):
    def shown():
        script = "return [...document.querySelectorAll('.plot [data-v]:not(.off)')]"
        return {*page.execute_script(script + ".map(mark => mark.dataset.v)")}

    assert shown() == {"0", "1", "2", "3", "4"}
    card = page.find_element("css selector", "[data-pick='1']")
    card.click()
    assert shown() == {"1"}
    assert card.get_attribute("aria-pressed") == "true"
    card.click()
    assert shown() == {"0", "1", "2", "3", "4"}


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
