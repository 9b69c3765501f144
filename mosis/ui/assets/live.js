// Parts of the page with data-live are fetched anew when something happens to the account. Without scripts one reloads.
const root = document.querySelector(".brand").getAttribute("href");
let asked = false, again = false;
async function refresh() {
  if (asked) { again = true; return; }
  asked = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      // nothing is taken from under somebody's hands
      const busy = part.contains(document.activeElement) || part.querySelector("details[open]");
      if (fresh && !busy && fresh.innerHTML !== part.dataset.was) {
        part.dataset.was = fresh.innerHTML;
        part.replaceChildren(...document.importNode(fresh, true).childNodes);
        document.dispatchEvent(new Event("fresh"));
      }
    }
  } finally {
    asked = false;
    if (again) { again = false; refresh(); }
  }
}
const source = new EventSource(root + "console/events");
source.addEventListener("message", refresh);
source.addEventListener("open", refresh, { once: true }); // what happened between this page and its stream
addEventListener("pagehide", () => source.close());
