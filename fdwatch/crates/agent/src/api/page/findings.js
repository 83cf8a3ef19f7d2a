// Findings, updated live.

import { lines } from "./api.js";
import { at, bytes, counted, element, number, replace, severity, shortened, since, span, visible } from "./dom.js";
import { open } from "./process.js";

// Limits of findings: shown and stored, active and gone.
const MAX_SHOWN = 200;
const MAX_STORED = 20000;
const MAX_GONE_SHOWN = 20;
const MAX_GONE_STORED = 50;
const ORDER = { critical: 0, warning: 1, info: 2 };

let present = new Map();
let untracked = 0;
let gone = [];
let goneTotal = 0;
let missed = 0;
let interrupted = 0;
// Changes since the last announcement.
let announced = { appeared: 0, gone: 0 };
let filter = "";
let isDue = false;
let stop = new AbortController();
// Findings that were active when the page was opened are not marked as new.
let isFirst = true;

export function begin() {
  at("severity").addEventListener("change", () => {
    gone = [];
    goneTotal = 0;
    stop.abort("again");
  });
  follow();
  setInterval(announce, 4000);
  // Updates the ages.
  setInterval(draw, 5000);
}

export function narrow(text) {
  filter = text;
  draw();
}

async function follow() {
  let wait = 1;
  for (;;) {
    stop = new AbortController();
    const minSeverity = at("severity").value;
    let reason = "the agent closed the connection";
    try {
      state("connecting", "faint");
      await lines(`/v1/events?current=true&format=lines&severity=${minSeverity}`, stop.signal, (event) => {
        wait = 1;
        take(event);
      });
    } catch (error) {
      if (stop.signal.aborted) continue;
      reason = error.message;
    }
    interrupted += 1;
    for (let left = wait; left > 0 && !stop.signal.aborted; left -= 1) {
      state(`disconnected, retrying in ${left} s`, "bad", reason);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    wait = Math.min(wait * 2, 30);
  }
}

function state(text, kind, reason = "") {
  const live = at("live");
  live.textContent = text;
  live.className = `pill ${kind}`;
  live.title = reason;
}

function take(event) {
  if (event.type === "started") {
    // All active findings follow.
    present = new Map();
    untracked = 0;
    state("● live", "good");
    setTimeout(() => { isFirst = false; }, 1000);
  } else if (event.type === "dropped") {
    missed += event.missed;
  } else if (event.type === "loss" || event.type === "budget") {
    // Shown in the health of the agent.
  } else if (event.key === undefined) {
    return;
  } else if (event.change === "gone") {
    if (!present.delete(event.key) && untracked > 0) untracked -= 1;
    goneTotal += 1;
    announced.gone += 1;
    gone.unshift(event);
    gone.length = Math.min(gone.length, MAX_GONE_STORED);
  } else {
    const known = present.get(event.key);
    if (!known && present.size >= MAX_STORED) {
      if (event.change === "found") untracked += 1;
    } else {
      event.first = known?.first ?? event.time;
      event.isNew = known?.isNew ?? (isFirst ? 0 : Date.now());
      present.set(event.key, event);
      if (!known && !isFirst) announced.appeared += 1;
    }
  }
  due();
}

// Batches updates: many events arrive at once.
function due() {
  if (isDue) return;
  isDue = true;
  setTimeout(() => { isDue = false; draw(); }, 150);
}

function announce() {
  const { appeared, gone: ended } = announced;
  announced = { appeared: 0, gone: 0 };
  if (appeared + ended === 0) return;
  at("announce").textContent = `${counted(appeared, "finding")} appeared, ${ended} gone; ${present.size + untracked} active`;
}

function subject(event) {
  if (event.type === "finding") {
    const { file } = event;
    return file.path ?? `${file.type} ${file.dev} ${file.ino}`;
  }
  if (event.type === "growth") return `growing: ${counted(event.open, "descriptor")} of ${event.limit ?? "?"}`;
  if (event.type === "threshold") return `threshold exceeded: ${event.of} is ${event.value}, limit ${event.threshold}`;
  return event.type;
}

function about(event) {
  const parts = [`${shortened(event.process.comm, 60)}[${event.process.pid}]`];
  if (event.process.unit) parts.push(shortened(event.process.unit, 80));
  if (event.type === "finding") {
    parts.push(visible(event.cause));
    const held = event.fds.slice(0, 12).map((fd) => `${fd.fd}${fd.access}`).join(" ");
    const more = event.fds.length > 12 ? ` and ${event.fds.length - 12} more` : "";
    if (event.fds.length) parts.push(`descriptors ${held}${more}`);
    if (event.file.deleted) parts.push(event.file.pinned_bytes === undefined ? "deleted" : `deleted, holds ${bytes(event.file.pinned_bytes)}`);
    if (event.times > 1) parts.push(`${event.times} times`);
  } else if (event.type === "growth") {
    if (event.per_hour) parts.push(`+${number(event.per_hour)}/h`);
    if (event.seconds_left) parts.push(`limit reached in ${span(event.seconds_left)}`);
  }
  return parts.join(" · ");
}

function row(event, isGone) {
  const age = isGone
    ? `gone ${since(event.time)} ago${typeof event.lifetime === "number" ? `, lasted ${event.lifetime < 0.1 ? "less than 0.1" : event.lifetime} s` : ""}`
    : `for ${since(event.first)}`;
  const level = event.severity ?? "info";
  const button = element(
    "button",
    `finding ${level in ORDER ? level : ""} ${isGone ? "gone" : ""} ${Date.now() - event.isNew < 1200 ? "new" : ""}`,
    severity(level),
    element("span", "what", shortened(subject(event))),
    element("span", "age", age),
    element("span", "who", about(event)),
  );
  button.type = "button";
  button.dataset.key = isGone ? `gone ${event.key} ${event.time}` : event.key;
  button.addEventListener("click", () => open(event.process.pid));
  return element("li", "", button);
}

const matches = (event) =>
  !filter || `${subject(event)}\n${event.process.comm}\n${event.process.pid}\n${event.process.unit ?? ""}\n${event.process.exe ?? ""}`.toLowerCase().includes(filter);

function draw() {
  const all = [...present.values()].filter(matches);
  all.sort((one, other) => (ORDER[one.severity] ?? 3) - (ORDER[other.severity] ?? 3) || Date.parse(other.first) - Date.parse(one.first));
  replace(at("present"), all.length
    ? all.slice(0, MAX_SHOWN).map((event) => row(event, false))
    : [element("li", "small", filter ? "no finding matches the filter" : "no findings")]);
  const left = all.length - Math.min(all.length, MAX_SHOWN) + (filter ? 0 : untracked);
  at("present-more").textContent = left ? `and ${number(left)} more: use the filter, or see /v1/findings` : "";
  at("findings-count").textContent = filter ? `${number(all.length)} of ${number(present.size + untracked)}` : number(present.size + untracked);
  const past = gone.filter(matches);
  replace(at("gone"), past.length ? past.slice(0, MAX_GONE_SHOWN).map((event) => row(event, true)) : [element("li", "small", "none since the page was opened")]);
  const more = filter ? past.length - Math.min(past.length, MAX_GONE_SHOWN) : goneTotal - Math.min(past.length, MAX_GONE_SHOWN);
  at("gone-more").textContent = more > 0 ? `and ${number(more)} more: see fdwatch history` : "";
  const words = [];
  if (missed) words.push(`${number(missed)} events were missed because this page was too slow; the list was reloaded`);
  if (interrupted) words.push(`the connection was interrupted ${counted(interrupted, "time")}: short-lived findings may be missing`);
  at("missed").textContent = words.join("; ");
  at("missed").hidden = words.length === 0;
}
