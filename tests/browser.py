"""Headless Chromium for tests of pages, driven over the DevTools protocol; nothing is downloaded."""

import base64
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import NoAlertPresentException, UnexpectedAlertPresentException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND",
]  # fmt: skip
_OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}

_HIDDEN = """(() => {
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, home = node.parentElement, range = document.createRange();
    if (!node.data.trim() || home.closest('script, style, svg title, svg desc')) continue;
    range.selectNodeContents(node);
    const seen = home.checkVisibility({opacityProperty: true, visibilityProperty: true});
    if (!seen || !range.getClientRects().length) found.push(node.data.trim());
  }
  return found;
})()"""
_CONTRASTS = """(() => {
  const channels = text => {
    const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a ?? 1];
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3])).concat(1);
  const light = colour => {
    const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = home => {
    const layers = [];
    for (let one = home; one; one = one.parentElement) layers.push(channels(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const under = (home, box) => {
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    for (const one of document.elementsFromPoint(x, y)) {
      if (one.closest('text')) continue;
      if (!(one instanceof SVGGeometryElement)) return behind(one);
      const place = new DOMPoint(x, y).matrixTransform(one.getScreenCTM().inverse());
      const fill = getComputedStyle(one).fill;
      if (fill != 'none' && channels(fill)[3] == 1 && one.isPointInFill(place)) return channels(fill);
    }
  };
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, home = node.parentElement, range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect(), drawn = home instanceof SVGElement;
    if (!node.data.trim() || !box.width || !home.checkVisibility() || home.closest('caption, title')) continue;
    const ground = drawn ? under(home, box) : behind(home);
    if (!ground) { found.push([node.data, 0, 'nothing under it']); continue; }
    const style = getComputedStyle(home), ink = over(channels(drawn ? style.fill : style.color), ground);
    const [low, high] = [light(ink), light(ground)].sort((a, b) => a - b);
    found.push([node.data, (high + 0.05) / (low + 0.05), `${ink} on ${ground}`, drawn]);
  }
  return found;
})()"""


class Browser:
    """One window without a network.

    Args:
        driver: of the browser.
        folder: for the pages that are opened.
    """

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self._driver, self._folder, self._events = driver, folder, []
        self.command("Network.enable")
        self.command("Network.emulateNetworkConditions", **_OFFLINE)

    def command(self, name: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its answer."""
        return self._undisturbed(lambda: self._driver.execute_cdp_cmd(name, parameters))

    def open(
        self, page: str, *, width: int = 1000, height: int = 900, scripts: bool = True, media: str = "", **features: str
    ) -> str:
        """Open a page, forget what was logged before, and return the page's address.

        Args:
            page: its HTML.
            width, height: of the window, in CSS px.
            scripts: whether it may run any; :meth:`ask` works without.
            media: ``print`` to look at it as on paper.
            features: media features, ``prefers_color_scheme="dark"``.
        """
        self._close_dialogs()
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.resize(width, height)
        wanted = {"prefers_color_scheme": "light", "forced_colors": "none", **features}
        self.command(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": name.replace("_", "-"), "value": value} for name, value in wanted.items()],
        )
        path = self._folder / "report.html"
        path.write_text(page, encoding="utf-8")
        for log in ("performance", "browser"):
            self._driver.get_log(log)
        self._events = []
        self._driver.get(path.as_uri())
        return path.as_uri()

    def resize(self, width: int, height: int) -> None:
        """Set the size of the window, in CSS px."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def ask(self, script: str, *arguments: Any) -> Any:
        """Return what an expression is in the page."""
        return self._undisturbed(lambda: self._driver.execute_script(f"return {script}", *arguments))

    def wait(self, script: str) -> Any:
        """Return what a promise in the page comes to."""
        answer = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        actions = ActionChains(self._driver, duration=0)
        for key in keys:
            actions.send_keys(key)
        actions.perform()

    def hidden_texts(self) -> list[str]:
        """Return every text of the page that is not shown."""
        return self.ask(_HIDDEN)

    def contrasts(self) -> list[list[Any]]:
        """Return, for each text that is shown, its contrast with what lies under its middle (WCAG 2.2, contrast ratio).

        Each is: the text, the ratio from 1 to 21, both colours, whether it is part of an SVG. The window must be as
        high as the page.
        """
        return self.ask(_CONTRASTS)

    @property
    def requests(self) -> list[str]:
        """Addresses of everything that was asked for since the page was opened, its own first.

        What the page's policy forbade was never sent.
        """
        failed = self._logged("Network.loadingFailed")
        forbidden = {event["requestId"] for event in failed if event.get("blockedReason") == "csp"}
        sent = self._logged("Network.requestWillBeSent")
        return [event["request"]["url"] for event in sent if event["requestId"] not in forbidden]

    @property
    def dialogs(self) -> list[str]:
        """Messages of the dialogs that opened since then."""
        return [event["message"] for event in self._logged("Page.javascriptDialogOpening")]

    @property
    def console(self) -> list[str]:
        """What the console has told since it was last asked."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def paper(self) -> list[str]:
        """Print the page on A4 and return the drawing operators of each sheet."""
        answer = self.command("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
        return _sheets(base64.b64decode(answer["data"]))

    def _logged(self, method: str) -> list[dict[str, Any]]:
        self._close_dialogs()
        messages = [json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance")]
        self._events += [(message["method"], message["params"]) for message in messages]
        return [parameters for name, parameters in self._events if name == method]

    def _undisturbed(self, action: Callable[[], Any]) -> Any:
        """Do it again as long as a dialog comes in between."""
        for _ in range(20):
            try:
                return action()
            except UnexpectedAlertPresentException:
                self._close_dialogs()
        raise AssertionError("dialogs never end")

    def _close_dialogs(self) -> None:
        for _ in range(100):
            try:
                self._driver.switch_to.alert.accept()
            except NoAlertPresentException:
                return
        raise AssertionError("dialogs never end")


def _sheets(pdf: bytes) -> list[str]:
    objects = dict(re.findall(rb"(?m)^(\d+) 0 obj\s(.*?)\sendobj", pdf, re.DOTALL))
    found = []
    for page in objects.values():
        if re.search(rb"/Type\s*/Page\b", page):
            stream = objects[re.search(rb"/Contents (\d+) 0 R", page)[1]]
            body = re.search(rb"stream\r?\n(.*?)\r?\nendstream", stream, re.DOTALL)[1]
            found.append((zlib.decompress(body) if b"/FlateDecode" in stream else body).decode("latin-1"))
    return found


@contextmanager
def started(chromium: str, chromedriver: str, folder: Path) -> Iterator[Browser]:
    """Run a browser as long as the context lasts.

    Args:
        chromium, chromedriver: paths of the programs.
        folder: empty; for its profile and pages.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={folder / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        yield Browser(driver, folder)
    finally:
        driver.quit()
