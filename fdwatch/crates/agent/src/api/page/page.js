// The page: periodic requests, and keyboard shortcuts.

import * as api from "./api.js";
import { at, bytes, counted, curve, element, number, percent, replace, shortened, span, visible } from "./dom.js";
import * as findings from "./findings.js";
import * as process from "./process.js";

// Time between a response and the next request: milliseconds.
const INTERVAL = 5000;
// Processes that are requested, for the filter, and that are shown.
const REQUESTED = 100;
const MAX_SHOWN = 25;

let processes = { processes: [], more: 0 };
let filter = "";

function drawProcesses() {
  const all = processes.processes.filter((row) => !filter || `${row.comm}\n${row.pid}\n${row.unit ?? ""}`.toLowerCase().includes(filter));
  const shown = all.slice(0, MAX_SHOWN);
  replace(at("rows"), shown.map((row) => {
    const button = element("button", "", shortened(row.comm, 60), element("span", "pid", `[${row.pid}]`));
    button.type = "button";
    button.dataset.key = String(row.pid);
    button.addEventListener("click", () => process.open(row.pid));
    const share = row.limit_share;
    const kind = share >= 0.9 ? "bad" : share >= 0.7 ? "warn" : "";
    return element(
      "tr",
      "",
      element("td", "", button, row.unit ? element("span", "unit small", shortened(row.unit, 80)) : null),
      element("td", "number", number(row.descriptors)),
      element("td", "wide", curve(row.curve, "descriptors")),
      element("td", `number ${kind}`, `${kind ? "! " : ""}${percent(share)}`),
      element("td", "number", row.duplicate_files ? element("span", "dupmark", `◆ ${number(row.duplicate_descriptors)} on ${number(row.duplicate_files)}`) : "–"),
    );
  }));
  const left = all.length - shown.length + (filter ? 0 : processes.more);
  const words = [];
  if (left > 0) words.push(`and ${number(left)} more`);
  if (filter && processes.more > 0) words.push(`the filter covers only the busiest ${processes.processes.length}`);
  at("rows-more").textContent = words.join("; ");
}

function drawHealth(health) {
  at("host").textContent = `on ${shortened(health.host, 64)}`;
  document.title = `fdwatch on ${shortened(health.host, 64)}`;
  const status = at("status");
  const marks = { ok: "✔ ok", degraded: "▲ degraded", stalled: "✖ stalled" };
  status.textContent = marks[health.status] ?? visible(health.status);
  status.className = `pill ${{ ok: "good", degraded: "warn" }[health.status] ?? "bad"}`;
  const troubles = at("troubles");
  troubles.hidden = health.troubles.length === 0;
  troubles.replaceChildren(...health.troubles.slice(0, 50).map((one) => element("li", "", `${visible(one.of)}: ${shortened(one.reason, 1000)}`)));
  const counts = health.findings;
  const figures = [
    ["Findings", `${counts.critical} critical, ${counts.warning} warning, ${counts.info} info`],
    ["Reported", `${number(health.told.found)} found, ${number(health.told.gone)} gone, ${number(health.told.ignored)} ignored`],
    ["Descriptors", `${number(health.descriptors)} of ${counted(health.processes, "process")}`],
    ["Events", number(health.events)],
    ["Lost", number(health.lost), health.lost ? "bad" : ""],
    ["Drift", `${number(health.drift)} in ${counted(health.audits, "audit")}`, health.drift ? "warn" : ""],
    ["Budget", `${health.budget.cpu} % of ${health.budget.max_cpu} % CPU; skipped: ${visible(health.budget.sheds)}`, health.budget.sheds === "nothing" ? "" : "warn"],
    ["CPU, memory", `${health.cpu_seconds.toFixed(1)} s, ${bytes(health.rss_bytes)}`],
    ["Uptime", span(health.duration)],
    ["Version, kernel", `${visible(health.version)}, ${visible(health.kernel)}`],
    ["API", `${counted(health.api.requests, "request")}, ${number(health.api.refused)} refused`],
    ["Event readers", `${health.api.readers}, ${number(health.api.slow_readers)} dropped as too slow`],
  ];
  at("figures").replaceChildren(...figures.map(([name, value, kind]) => element("div", "", element("dt", "", name), element("dd", kind ?? "", kind ? `! ${value}` : value))));
  const outlets = Object.entries(health.outlets);
  at("outlets").hidden = outlets.length === 0;
  at("outlet-rows").replaceChildren(...outlets.map(([name, rows]) => element(
    "tr",
    "",
    element("td", "", shortened(name, 60)),
    ...["taken", "delivered", "failed", "dropped"].map((what) => element("td", "number", number(rows[what]))),
  )));
}

// Repeats a request some time after each response, but not while the page is hidden.
function repeat(path, also, take, fail) {
  const again = async () => {
    if (!document.hidden) {
      try {
        take(await api.get(path, { also }));
      } catch (error) {
        fail(error);
      }
    }
    setTimeout(again, INTERVAL);
  };
  again();
}

function keys(event) {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !at("process").open && !/^(INPUT|SELECT)$/.test(document.activeElement?.tagName)) {
    event.preventDefault();
    at("filter").focus();
  } else if (event.key === "Escape" && document.activeElement === at("filter")) {
    at("filter").value = "";
    narrow();
  }
}

function narrow() {
  filter = at("filter").value.trim().toLowerCase();
  findings.narrow(filter);
  drawProcesses();
}

api.begin();
process.begin();
findings.begin();
document.addEventListener("keydown", keys);
at("filter").addEventListener("input", narrow);
repeat(`/v1/processes?limit=${REQUESTED}`, [], (response) => {
  processes = response;
  at("processes-count").textContent = number(response.processes.length + response.more);
  drawProcesses();
}, (error) => {
  at("rows-more").textContent = `request failed: ${error.message}`;
});
repeat("/v1/health", [503], drawHealth, (error) => {
  at("status").textContent = "✖ no response";
  at("status").className = "pill bad";
  at("status").title = error.message;
});
