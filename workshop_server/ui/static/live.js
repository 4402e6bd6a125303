// Keeps a page fresh: asks the server for the page's main part, and changes what differs, in place.
const main = () => document.getElementById("main");
const lost = document.getElementById("lost");
let timer = 0, asking = false, last = "";

function zone() {  // so that the server writes times as they are where the reader is
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!name || document.cookie.split("; ").includes(`zone=${encodeURIComponent(name)}`)) return false;
  document.cookie = `zone=${encodeURIComponent(name)}; path=/; max-age=31536000; samesite=strict`;
  return document.cookie.includes("zone=");
}

function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || (old.id || "") !== (fresh.id || "")) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.hasAttribute("data-keep")) return;
  for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) {
    const isOpen = name === "open" && old.nodeName === "DETAILS";  // what the reader has opened stays open
    if (!fresh.hasAttribute(name) && !isOpen) old.removeAttribute(name);
  }
  const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  const wanted = new Set([...fresh.children].map((child) => child.id));
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    while (place?.id && !wanted.has(place.id)) {  // else those that stay would move, and lose the focus
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
    const same = child.id && known.get(child.id);
    if (same && same !== place) old.insertBefore(same, place);
    if (same) {
      place = same.nextSibling;
      morph(same, child);
    } else if (place && !place.id && !child.id) {
      const next = place.nextSibling;
      morph(place, child);
      place = next;
    } else {
      old.insertBefore(child, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

async function refresh() {
  if (asking || document.hidden) return;
  asking = true;
  try {
    const answer = await fetch(location.href, { headers: { "X-Part": "main" }, cache: "no-store" });
    if (answer.status === 401) location.reload();
    const text = await answer.text();
    if (answer.ok && text !== last) {
      const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("main");
      if (fresh && !main().querySelector("form:not([data-keep]) :is(input, textarea):focus")) {
        morph(main(), fresh);
        document.title = `${main().dataset.title} · Prefect server`;
        last = text;
        pressed();
      }
    }
    await moreLines();
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  } finally {
    asking = false;
    again();
  }
}

function again() {
  clearTimeout(timer);
  const every = Number(main().dataset.every);
  if (every) timer = setTimeout(refresh, every * 1000);
}

async function moreLines() {  // of the log: only those that have come since
  const log = document.getElementById("log");
  if (!log?.dataset.url) return;
  const url = new URL(log.dataset.url, location.href);
  url.pathname = `${url.pathname}/lines`;
  url.searchParams.set("after", log.dataset.after);
  const answer = await fetch(url, { headers: { "X-Part": "lines" }, cache: "no-store" });
  if (!answer.ok) return;
  const rows = new DOMParser().parseFromString(`<ol>${await answer.text()}</ol>`, "text/html").querySelectorAll("li");
  const atEnd = log.scrollTop + log.clientHeight > log.scrollHeight - 40;
  for (const row of rows) {
    if (row.dataset.last) log.dataset.after = row.dataset.last;
    else if (!document.getElementById(row.id)) log.append(row);
  }
  while (log.children.length > 5000) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function tick() {  // durations that still grow, between two answers
  for (const each of main().querySelectorAll("[data-seconds]")) {
    if (each.since === undefined || each.was !== each.dataset.seconds) {
      each.was = each.dataset.seconds;
      each.since = performance.now() - 1000 * Number(each.was);
    }
    const seconds = Math.floor((performance.now() - each.since) / 1000);
    const two = (number) => String(number).padStart(2, "0");
    if (seconds >= 10) {
      each.textContent = seconds < 60 ? `${seconds} s`
        : seconds < 3600 ? `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`
        : each.textContent;
    }
  }
}

let fitted = false;
function pressed() {
  const button = document.getElementById("fit");
  if (!button) return;
  button.hidden = false;
  button.setAttribute("aria-pressed", String(fitted));
  document.querySelector(".canvas")?.classList.toggle("fit", fitted);
}

document.addEventListener("click", (event) => {
  if (event.target.closest("#fit")) {
    fitted = !fitted;
    pressed();
  }
  for (const open of document.querySelectorAll("details.menu[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const open of document.querySelectorAll("details.menu[open]")) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto]");
  if (form && event.target.matches("select")) form.requestSubmit();
});

let hold = null;  // the schematic is dragged about
document.addEventListener("pointerdown", (event) => {
  const canvas = event.target.closest(".canvas");
  if (!canvas || event.button !== 0 || event.pointerType === "touch") return;
  hold = { canvas, x: event.clientX, y: event.clientY, left: canvas.scrollLeft, top: canvas.scrollTop, moved: false };
});
document.addEventListener("pointermove", (event) => {
  if (!hold) return;
  const [x, y] = [event.clientX - hold.x, event.clientY - hold.y];
  if (Math.abs(x) + Math.abs(y) > 4) hold.moved = true;
  hold.canvas.classList.toggle("drag", hold.moved);
  hold.canvas.scrollTo(hold.left - x, hold.top - y);
});
document.addEventListener("pointerup", () => {
  hold?.canvas.classList.remove("drag");
  const { moved } = hold ?? {};
  hold = null;
  if (moved) document.addEventListener("click", (event) => event.preventDefault(), { capture: true, once: true });
});
document.addEventListener("dragstart", (event) => event.target.closest(".canvas") && event.preventDefault());

function neighbours(event) {  // the lines of the card that is pointed at
  const task = event.target.closest?.("[data-task]")?.dataset.task;
  for (const path of document.querySelectorAll(".edges path")) {
    path.classList.toggle("near", task !== undefined && (path.dataset.a === task || path.dataset.b === task));
  }
}
document.addEventListener("mouseover", neighbours);
document.addEventListener("focusin", neighbours);

document.addEventListener("visibilitychange", () => document.hidden || refresh());
if (zone()) location.reload();
const log = document.getElementById("log");
if (log?.dataset.url) log.scrollTop = log.scrollHeight;
const canvas = document.querySelector(".canvas");
if (canvas) canvas.scrollLeft = (canvas.scrollWidth - canvas.clientWidth) / 2;
pressed();
setInterval(tick, 1000);
again();
