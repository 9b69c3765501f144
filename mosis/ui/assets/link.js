// Links of older mails: #KIND=TOKEN leads to the page of that kind.
const [, kind, token] = /^#([a-z]+)(?:=([A-Za-z0-9_-]{1,100}))?$/.exec(location.hash) || [];
const link = kind && document.querySelector(`[data-kind="${kind}"]`);
if (link) {
  location.replace(link.getAttribute("href") + (kind === "device" ? (token ? "?code=" + token : "") : "#" + (token || "")));
}
