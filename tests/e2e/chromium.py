"""A headless Chromium, driven as a user does: open, type, press, read."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WAIT_SECONDS = 60
# What WCAG 2.2 AA asks for, as far as a program can tell.
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CONTRAST = "color-contrast"
SIZES = {"desktop": 1280, "phone": 360}
# Marks the texts of the page whose colours are not among those given, one for each combination, and
# asks axe about them at once: what a live page replaces loses its mark.
NEW_COLOURS = """
const seen = new Set(arguments[0]), fresh = [];
const styled = (each, kind) => getComputedStyle(each, kind);
for (const each of document.querySelectorAll("body, body *")) {
  delete each.dataset.colours;
  const hasText = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!each.checkVisibility() || !(hasText || each.matches("input, select, textarea"))) continue;
  const own = styled(each), parts = [own.color, own.fontSize, own.fontWeight, own.textShadow];
  for (let up = each; up; up = up.parentElement) {
    const around = styled(up);
    parts.push(around.backgroundColor, around.backgroundImage, around.opacity, around.filter);
  }
  for (const name of ["position", "zIndex", "float", "overflow"]) parts.push(own[name]);
  const key = parts.filter((part) => !["rgba(0, 0, 0, 0)", "none", "1"].includes(part)).join();
  if (seen.has(key)) continue;
  seen.add(key);
  fresh.push(key);
  each.dataset.colours = "";
}
return fresh.length
  ? axe.run({include: [["[data-colours]"]]}, arguments[1]).then((found) => [fresh, found.violations])
  : [fresh, []];
"""
AXE = "return axe.run(document, arguments[0]).then((found) => found.violations)"

# The first visible element of these XPaths and CSS selectors whose text begins so, in the middle of
# the window.
FIRST_VISIBLE = """
const every = (path) => {
  const kind = XPathResult.ORDERED_NODE_SNAPSHOT_TYPE;
  const found = document.evaluate(path, document, null, kind, null);
  return [...Array(found.snapshotLength).keys()].map((number) => found.snapshotItem(number));
};
for (const place of arguments[0]) {
  const all = place.startsWith("/") ? every(place) : [...document.querySelectorAll(place)];
  const first = all.find((each) => each.checkVisibility({visibilityProperty: true})
    && each.getClientRects().length && each.textContent.trim().startsWith(arguments[1]));
  if (first) {
    first.scrollIntoView({block: "center"});
    return first;
  }
}
return null;
"""
IS_WRITTEN = """
const field = document.activeElement;
return field.name === arguments[0] && field.value !== "";
"""
SLOW_STREAMS = """
const Real = EventSource;
window.EventSource = class extends EventTarget {
  constructor(address) {
    super();
    window.connect = () => {
      const source = new Real(address);
      for (const name of ["open", "message"])
        source.addEventListener(name, () => this.dispatchEvent(new Event(name)));
    };
  }
  close() {}
};
"""


class Chromium:
    """One browser; `become` changes who uses it. It reaches no host but 127.0.0.1."""

    def __init__(self, program: str, driver: str, folder: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for argument in (
            "--headless=new",
            "--no-sandbox",  # it cannot make one inside containers, and sees our own pages alone
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--no-first-run",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={folder / 'profile'}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        preferences = {"download.default_directory": str(self.downloads)}
        options.add_experimental_option("prefs", preferences)
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_page_load_timeout(WAIT_SECONDS)
        self.driver.set_script_timeout(WAIT_SECONDS)
        self.base_url = ""
        self._cookies: dict[str, list[dict[str, Any]]] = {}
        self._who = ""
        self._size = self._theme = ""
        self._colours: set[str] = set()  # that axe has judged

    def close(self) -> None:
        self.driver.quit()

    def reset(self) -> None:
        """Nobody is signed in anywhere."""
        self._cdp("Network.clearBrowserCookies")
        self._cookies, self._who = {}, ""
        self.driver.get("about:blank")
        self.look("desktop", "light")
        self.driver.get_log("browser")

    def become(self, name: str) -> None:
        """Somebody else uses the browser, with the cookies that they had last. The page is left
        before: what it asks for by itself must not come with the cookies of the other one."""
        self.driver.get("about:blank")
        self._cookies[self._who] = self._cdp("Network.getAllCookies")["cookies"]
        self._cdp("Network.clearBrowserCookies")
        self._who = name
        for cookie in self._cookies.get(name, []):
            known = ("name", "value", "domain", "path", "httpOnly", "secure", "sameSite")
            self._cdp("Network.setCookie", {key: cookie[key] for key in known if key in cookie})

    # what people do

    def open(self, path: str) -> None:
        """Go to a page of the portal, or to a whole address."""
        self.driver.get(path if "://" in path else self.base_url + path)

    def fill(self, **fields: str) -> None:
        """Write into fields of the page, by their names, instead of what is in them."""
        for name, value in fields.items():

            def is_written(name: str = name, value: str = value) -> Any:
                self._with_first([f"main [name={name}]"], self._select)
                self._cdp("Input.insertText", {"text": value})
                return self.driver.execute_script(IS_WRITTEN, name)

            self.wait(is_written, f"{name} is written")

    def press(self, text: str) -> None:
        """Press the button or follow the link with this text: exactly this if there is one, and
        rather in the content than in the navigation."""
        answer, what = (
            "normalize-space(.)",
            "*[self::button or self::a or self::summary or self::label]",
        )
        words = json.dumps(text)
        paths = [
            f"{place}//{what}[{condition}]"
            for place in ("//main", "")
            for condition in (f"{answer} = {words}", f"contains({answer}, {words})")
        ]
        self._with_first(paths, lambda found: found.click())

    def click(self, selector: str) -> None:
        """Click on the first visible element of a CSS selector, once it is there."""
        self._with_first([selector], lambda found: found.click())

    def find(self, selector: str) -> Any:
        """The first visible element of a CSS selector or an XPath, once it is there."""
        return self._with_first([selector], lambda found: found)

    def row(self, selector: str, beginning: str) -> Any:
        """The first element of a CSS selector whose text begins so, once it is there."""
        return self._with_first([selector], lambda found: found, beginning)

    def keys(self, text: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(text).perform()

    def sees(self, text: str) -> None:
        """Wait until the page shows this text."""
        self.wait(lambda: text in self.text, f"the page shows {text!r}")

    @property
    def text(self) -> str:
        """The visible text of the page, with single spaces."""
        body = self.driver.execute_script("return document.body ? document.body.innerText : ''")
        return " ".join(str(body).split())

    @property
    def path(self) -> str:
        return str(self.driver.current_url).removeprefix(self.base_url)

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until something is so; page changes in between do no harm."""
        from selenium.common.exceptions import WebDriverException

        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                if condition():
                    return
            except WebDriverException:
                pass
            assert time.monotonic() < deadline, f"waited until {what}; {self.path}: {self.text}"
            time.sleep(0.05)

    @contextlib.contextmanager
    def _in_new_pages(self, script: str) -> Iterator[None]:
        """Pages that are opened meanwhile begin with this script."""
        added = self._cdp("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        try:
            yield
        finally:
            self._cdp("Page.removeScriptToEvaluateOnNewDocument", added)

    @contextlib.contextmanager
    def slow_streams(self) -> Iterator[None]:
        """Streams of events that pages open meanwhile are connected at the end."""
        with self._in_new_pages(SLOW_STREAMS):
            yield
            self.driver.execute_script("connect()")

    def with_axe(self) -> contextlib.AbstractContextManager[None]:
        """Pages that are opened meanwhile can be asked for their `violations`."""
        return self._in_new_pages((HERE / "axe.min.js").read_text(encoding="utf-8"))

    def downloaded(self, name: str) -> bytes:
        """The content of a download, once it is whole."""
        path = self.downloads / name
        self.wait(path.exists, f"{name} is downloaded")
        return path.read_bytes()

    # what is looked at

    def look(self, size: str, theme: str) -> None:
        """Change the size of the window and the theme."""
        if size != self._size:
            metrics = {"width": SIZES[size], "height": 800, "deviceScaleFactor": 1, "mobile": False}
            self._cdp("Emulation.setDeviceMetricsOverride", metrics)
        if theme != self._theme:
            features = [
                {"name": "prefers-color-scheme", "value": theme},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ]
            self._cdp("Emulation.setEmulatedMedia", {"features": features})
        self._size, self._theme = size, theme

    def complaints(self) -> list[str]:
        """What pages of the portal have against themselves: violations of the policy, scripts that fail,
        missing files. That a refused form answers 4xx is none."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
            and self.base_url in entry["message"]
            and "the server responded with a status of 4" not in entry["message"]
        ]

    def violations(self, theme: str) -> list[str]:
        """What axe-core has to say about the page, serious and worse; in the dark theme about colours
        alone, since nothing else differs. Colours take axe most of its time: each combination of
        text and background is tried on the first page that has it."""
        options, run = {"resultTypes": ["violations"]}, self.driver.execute_script
        colours = options | {"runOnly": [CONTRAST]}
        fresh, found = run(NEW_COLOURS, sorted(self._colours), colours)
        self._colours.update(fresh)
        if theme == "light":
            rules = {"runOnly": {"type": "tag", "values": AXE_TAGS}}
            found += run(AXE, options | rules | {"rules": {CONTRAST: {"enabled": False}}})
        return [
            f"{each['id']}: {each['help']} {[node['target'] for node in each['nodes']][:5]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

    def is_wider_than_the_window(self) -> bool:
        """Whether one has to scroll sideways."""
        return bool(
            self.driver.execute_script(
                "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )
        )

    def screenshot(self, path: Path) -> None:
        """The whole page, at most 3,000 pixels of it."""
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        width = self.driver.execute_script("return document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 3000), "scale": 1}
        taken = self._cdp("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def _with_first(
        self, places: list[str], action: Callable[[Any], Any], beginning: str = ""
    ) -> Any:
        """Do something with the first visible element of these places, once it is there; again with
        its successor, if the page has replaced it in between."""
        from selenium.common.exceptions import StaleElementReferenceException

        found: list[Any] = []

        def is_there() -> bool:
            found[:] = [self.driver.execute_script(FIRST_VISIBLE, places, beginning)]
            return found[0] is not None

        for _ in range(10):
            self.wait(is_there, f"there is one of {places}")
            with contextlib.suppress(StaleElementReferenceException):
                return action(found[0])
        raise AssertionError(f"{places} is replaced again and again")

    def _select(self, field: Any) -> None:
        """Put the focus on a field, and select what is in it."""
        self.driver.execute_script("arguments[0].focus(); arguments[0].select()", field)

    def _cdp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        return self.driver.execute_cdp_cmd(command, arguments or {})
