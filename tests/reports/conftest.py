"""A real browser for the pages: Debian's chromium through selenium; tests that ask for it skip where it is absent."""

import shutil

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-device-scale-factor=1",
    "--autoplay-policy=no-user-gesture-required", "--window-size=1280,900",
)  # fmt: skip


class Browser:
    """A chromium that opens pages of ours.

    Attributes:
        driver: selenium's, for what is not here.
    """

    def __init__(self, driver):
        self.driver = driver

    def open(self, path, *, width=1280, dark=False):
        """Open a page as on a screen so wide."""
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(path.absolute().as_uri())
        return self

    def ask(self, script, *values):
        """What a script returns."""
        return self.driver.execute_script(script, *values)

    def wait(self, script, seconds=10.0):
        """Wait until a script returns something true, and return it."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.05).until(lambda driver: driver.execute_script(script))

    def press(self, *keys):
        """Press keys, by their names in selenium, or letters."""
        from selenium.webdriver import ActionChains, Keys

        ActionChains(self.driver).send_keys(*(getattr(Keys, key, key) for key in keys)).perform()

    def complaints(self):
        """What stands in the console."""
        return [line["message"] for line in self.driver.get_log("browser")]

    def is_too_wide(self):
        """Whether the page must be moved sideways to be read."""
        return self.ask("return document.documentElement.scrollWidth > innerWidth")

    def picture(self, path, height=None):
        """Write what is seen to a PNG; with a height, of a screen so high."""
        if height:
            width = self.ask("return innerWidth")
            screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.save_screenshot(str(path))


def start_browser(profile):
    """A browser with a profile of its own; skips the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: requirements-dev.txt")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    driver = start_browser(tmp_path_factory.mktemp("browser"))
    yield Browser(driver)
    driver.quit()


@pytest.fixture
def console(browser):
    """Fails a test whose page writes to the console."""
    browser.complaints()
    yield
    assert browser.complaints() == []
