// A progress bar for uploads. The form works without it.
const form = document.querySelector("[data-upload]");
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const area = form.querySelector("[data-progress]"), bar = area.querySelector("progress"), text = area.querySelector("span");
  const button = form.querySelector("button");
  const request = new XMLHttpRequest();
  const end = (message) => { button.disabled = false; text.textContent = message; };
  request.upload.addEventListener("progress", (sent) => {
    if (!sent.lengthComputable) return;
    bar.value = (100 * sent.loaded) / sent.total;
    text.textContent = Math.floor(bar.value) + " %";
  });
  request.addEventListener("load", () => {
    if (request.status < 300 && new URL(request.responseURL).pathname !== new URL(form.action).pathname) {
      location.assign(request.responseURL);
      return;
    }
    const page = new DOMParser().parseFromString(request.responseText, "text/html");
    const alert = page.querySelector(".alert") || page.querySelector("main");
    end("");
    document.querySelector(".alert")?.remove();
    const shown = document.createElement("div");
    shown.className = "alert";
    shown.setAttribute("role", "alert");
    if (alert) shown.append(...document.importNode(alert, true).childNodes);
    else shown.textContent = String(request.status);
    area.hidden = true;
    document.querySelector("main").prepend(shown);
    scrollTo(0, 0);
  });
  request.addEventListener("error", () => end("⚠"));
  request.open("POST", form.action);
  request.send(new FormData(form));
  button.disabled = true;
  area.hidden = false;
});
