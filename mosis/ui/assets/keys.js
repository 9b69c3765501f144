// j and k walk through the links with data-step; other letters focus the element with that data-key. They can be turned off
// (WCAG 2.2, 2.1.4), and do nothing where one types.
const box = document.querySelector("[data-keys] input");
const steps = [...document.querySelectorAll("a[data-step]")];
box.closest("[data-keys]").hidden = false;
box.checked = localStorage.getItem("keys") !== "off";
box.addEventListener("change", () => localStorage.setItem("keys", box.checked ? "on" : "off"));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
  if (!box.checked || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "j" || event.key === "k") {
    let at = steps.indexOf(document.activeElement);
    if (at < 0) at = steps.findIndex((each) => each.hasAttribute("aria-current"));
    const next = steps[at < 0 ? 0 : at + (event.key === "j" ? 1 : -1)];
    if (!next) return;
    next.focus();
    if (next.closest(".files")) next.click(); // a file is shown at once, a review with Enter
  } else {
    const target = /^[a-z]$/.test(event.key) && document.querySelector(`[data-key="${event.key}"]`);
    if (!target) return;
    target.focus();
    target.scrollIntoView({ block: "center" });
  }
  event.preventDefault();
});
