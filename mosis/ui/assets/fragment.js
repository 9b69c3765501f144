// The token of a link stands behind the #, which browsers do not send. It goes into the form, and out of the address.
const field = document.querySelector("[data-fragment]");
const token = location.hash.slice(1);
if (field && /^[A-Za-z0-9_-]{20,100}$/.test(token)) {
  field.value = token;
  history.replaceState(null, "", location.pathname + location.search);
}
if (field && field.value) {
  field.closest("[data-fragment-field]").hidden = true;
  for (const each of document.querySelectorAll("[data-without-token]")) each.hidden = true;
  for (const each of document.querySelectorAll("[data-with-token]")) {
    each.open = true;
    each.querySelector("summary").hidden = true;
  }
}
