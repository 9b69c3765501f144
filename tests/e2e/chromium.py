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
SIZES = {"phone": 360, "desktop": 1280}
# Marks the texts of the page whose colours are not among those given, one for each combination.
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
return fresh;
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
        self._colours: set[str] = set()  # that axe has judged

    def close(self) -> None:
        self.driver.quit()

    def reset(self) -> None:
        """Nobody is signed in anywhere."""
        self._cdp("Network.clearBrowserCookies")
        self._cookies, self._who = {}, ""
        self.look("desktop", "light")
        self.driver.get("about:blank")
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
        """Type into fields of the page, by their names."""
        for name, value in fields.items():

            def is_typed(name: str = name, value: str = value) -> bool:
                field = self.find(f"main [name={name}]")
                field.clear()
                field.send_keys(value)
                return True

            self.wait(is_typed, f"{name} is typed")

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

        def is_pressed() -> bool:
            found = next(filter(None, map(self._visible, paths)), None)
            if found:
                self.driver.execute_script(
                    "arguments[0].scrollIntoView({block: 'center'})", found[0]
                )
                found[0].click()
            return bool(found)

        self.wait(is_pressed, f"there is a button {text!r}")

    def find(self, selector: str) -> Any:
        """The first visible element of a CSS selector, once it is there."""
        found: list[Any] = []

        def is_there() -> bool:
            found[:] = self._shown(selector)
            return bool(found)

        self.wait(is_there, f"there is {selector}")
        return found[0]

    def row(self, selector: str, beginning: str) -> Any:
        """The first element of a CSS selector whose text begins so, once it is there."""
        found: list[Any] = []

        def is_there() -> bool:
            found[:] = [each for each in self._shown(selector) if each.text.startswith(beginning)]
            return bool(found)

        self.wait(is_there, f"there is {selector} with {beginning!r}")
        return found[0]

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
    def slow_streams(self) -> Iterator[None]:
        """Streams of events that pages open meanwhile are connected at the end."""
        name, tool = "Page.addScriptToEvaluateOnNewDocument", self.driver.execute_cdp_cmd
        added = tool(name, {"source": SLOW_STREAMS})
        try:
            yield
            self.driver.execute_script("connect()")
        finally:
            tool("Page.removeScriptToEvaluateOnNewDocument", added)

    def downloaded(self, name: str) -> bytes:
        """The content of a download, once it is whole."""
        path = self.downloads / name
        self.wait(path.exists, f"{name} is downloaded")
        return path.read_bytes()

    # what is looked at

    def look(self, size: str, theme: str) -> None:
        """Change the size of the window and the theme."""
        metrics = {"width": SIZES[size], "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self._cdp("Emulation.setDeviceMetricsOverride", metrics)
        features = [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self._cdp("Emulation.setEmulatedMedia", {"features": features})

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
        if not self.driver.execute_script("return 'axe' in window"):
            self.driver.execute_script((HERE / "axe.min.js").read_text(encoding="utf-8"))
        fresh = self.driver.execute_script(NEW_COLOURS, sorted(self._colours))
        self._colours.update(fresh)
        found = []
        if theme == "light":
            options = {"runOnly": {"type": "tag", "values": AXE_TAGS}}
            found += self._axe("document", options | {"rules": {CONTRAST: {"enabled": False}}})
        if fresh:
            found += self._axe("{include: [['[data-colours]']]}", {"runOnly": [CONTRAST]})
        return [
            f"{each['id']}: {each['help']} {[node['target'] for node in each['nodes']][:5]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

    def _axe(self, context: str, options: dict[str, Any]) -> list[Any]:
        found = self.driver.execute_async_script(
            f"const [options, done] = arguments; axe.run({context}, options)"
            ".then((found) => done(found.violations), (error) => done(String(error)))",
            options | {"resultTypes": ["violations"]},
        )
        assert isinstance(found, list), found
        return found

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

    def _visible(self, xpath: str) -> list[Any]:
        return [each for each in self.driver.find_elements("xpath", xpath) if each.is_displayed()]

    def _shown(self, selector: str) -> list[Any]:
        found = self.driver.find_elements("css selector", selector)
        return [each for each in found if each.is_displayed()]

    def _cdp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        return self.driver.execute_cdp_cmd(command, arguments or {})
