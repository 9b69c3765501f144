// Times in the browser's zone and language; UTC stays in the title.
function show() {
  for (const time of document.querySelectorAll("time[datetime]:not([title])")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    time.title = time.textContent.trim();
    const withClock = time.textContent.includes("UTC");
    time.textContent = moment.toLocaleString(undefined, withClock ? { dateStyle: "medium", timeStyle: "short" } : { dateStyle: "medium" });
  }
}
show();
document.addEventListener("fresh", show);
