
"use strict";
// Keeps the page as the server sees it. It writes nothing, and asks nobody but the server that it came from.
const byId = (id) => document.getElementById(id);
const SILENCE = 90000; // milliseconds without news, after which nobody knows any more
let heard = Date.now();

function say(state, text) {
  const live = byId("live");
  if (live.dataset.state !== state) { // said once, not at every look
    live.dataset.state = state;
    live.textContent = text;
  }
}
const lost = () => say("lost", "Not live: what is shown may be old, so nothing of it is proven now.");
function alive() {
  heard = Date.now();
  say("live", "Live.");
}
function replace(told) {
  const report = byId("report");
  const open = [...report.querySelectorAll("details[open]")].map((one) => one.id);
  const focus = report.contains(document.activeElement) ? document.activeElement.id : "";
  report.innerHTML = told.report; // escaped by the server; no script in it would run
  for (const id of open) byId(id)?.setAttribute("open", "");
  if (focus) byId(focus)?.focus({ preventScroll: true });
  document.title = told.title;
}

const events = new EventSource("/events");
events.addEventListener("report", (event) => replace(JSON.parse(event.data)));
events.addEventListener("read", (event) => {
  byId("read").textContent = JSON.parse(event.data);
  alive();
});
events.onerror = lost;
setInterval(() => { if (Date.now() - heard > SILENCE) lost(); }, 5000);
