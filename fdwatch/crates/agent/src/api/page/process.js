// The details of a process: its descriptors, and how it came to hold them.

import { get } from "./api.js";
import { at, bytes, clock, counted, element, number, percent, severity, shortened, visible } from "./dom.js";

// Limits of what is shown.
const MAX_FDS = 500;
const MAX_FILES = 50;
const MAX_STEPS = 200;
const MAX_ARGUMENTS = 60;

let shown = 0;
let pending = new AbortController();
let opener = null;
let onlyDuplicates = false;

export function begin() {
  at("close").addEventListener("click", () => at("process").close());
  at("again").addEventListener("click", () => load());
  at("process").addEventListener("close", () => {
    pending.abort();
    // Its row may have been redrawn meanwhile.
    const key = opener?.dataset.key;
    const again = opener?.isConnected ? opener : [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
    (again ?? at("filter")).focus();
  });
}

export function open(pid) {
  shown = pid;
  opener = document.activeElement;
  onlyDuplicates = false;
  at("process-title").textContent = `Process ${pid}`;
  at("process-body").replaceChildren(element("p", "small", "loading …"));
  if (!at("process").open) at("process").showModal();
  at("process-body").focus();
  load();
}

async function load() {
  pending.abort();
  pending = new AbortController();
  const { signal } = pending;
  const requests = [get(`/v1/processes/${shown}/fds`, { signal }), get(`/v1/explain/${shown}`, { signal })];
  const [table, explanation] = await Promise.allSettled(requests);
  if (signal.aborted) return;
  const body = at("process-body");
  const process = table.value?.process ?? explanation.value?.process;
  if (!process) {
    body.replaceChildren(element("p", "alarm", visible(table.reason.message)));
    return;
  }
  at("process-title").textContent = `${shortened(process.comm, 80)}[${process.pid}]`;
  const parts = [facts(process, explanation.value)];
  parts.push(explanation.value ? story(explanation.value) : element("p", "alarm", `no explanation: ${visible(explanation.reason.message)}`));
  parts.push(table.value ? fds(table.value.fds) : element("p", "alarm", `no descriptors: ${visible(table.reason.message)}`));
  body.replaceChildren(...parts);
}

function facts(process, explanation) {
  const list = element("dl", "facts");
  const fact = (name, value, kind = "") => {
    if (value !== null && value !== undefined && value !== "") list.append(element("div", "", element("dt", "", name), element("dd", kind, value)));
  };
  const words = process.cmdline ?? [];
  const line = words.slice(0, MAX_ARGUMENTS).map(visible).join(" ") + (words.length > MAX_ARGUMENTS ? ` … and ${words.length - MAX_ARGUMENTS} more` : "");
  fact("Command", shortened(line, 2000), "mono");
  fact("Program", process.exe && visible(process.exe), "mono");
  fact("Started", process.start_time && visible(process.start_time));
  fact("Parent, user", `${process.ppid}, uid ${process.uid ?? "?"}`);
  fact("Unit", process.unit && visible(process.unit));
  fact("Container", process.container && visible(`${process.container.runtime ?? ""} ${process.container.id}`));
  fact("Supervisor process", process.supervisor && visible(`${process.supervisor.group}:${process.supervisor.process}`));
  fact("Control group", process.cgroup && visible(process.cgroup), "mono");
  if (explanation) {
    const { open, limit, by_type: types, by_origin: origins } = explanation.descriptors;
    fact("Descriptors", `${number(open)}${limit ? ` of ${number(limit)} (${percent(open / limit)})` : ""}`);
    const listed = (counts) => Object.entries(counts).map(([name, count]) => `${count} ${visible(name)}`).join(", ");
    fact("By type", listed(types));
    fact("By origin", listed(origins));
    if (explanation.pinned.files) fact("Space held by deleted files", `${bytes(explanation.pinned.bytes)} in ${explanation.pinned.files}`);
    if (explanation.closed_unopened) fact("Closes of unopened descriptors", counted(explanation.closed_unopened, "time"));
  }
  return list;
}

const place = (frame) =>
  visible(frame.symbol ? `${frame.symbol}${frame.file ? ` ${frame.file}${frame.line ? `:${frame.line}` : ""}` : frame.module ? ` in ${frame.module}` : ""}` : `0x${frame.address}`);

const stack = (frames) => element("span", "stack mono", frames.map((frame, i) => `${i ? "< " : "in "}${place(frame)}`).join("\n"));

function story(explanation) {
  const part = element("div", "", element("h3", "", "Explanation"));
  if (explanation.files.length === 0) part.append(element("p", "small", "no duplicates and no deleted files"));
  for (const file of explanation.files.slice(0, MAX_FILES)) {
    const steps = element("ol", "");
    for (const sentence of file.story.slice(0, MAX_STEPS)) {
      const line = element("li", "", clock(sentence.at), element("span", "", visible(sentence.text)));
      if (sentence.stack?.length) line.append(stack(sentence.stack));
      steps.append(line);
    }
    if (file.story.length > MAX_STEPS) steps.append(element("li", "small", `and ${file.story.length - MAX_STEPS} more`));
    const still = file.open.length ? `still open: ${file.open.slice(0, 50).join(", ")}${file.open.length > 50 ? ` and ${file.open.length - 50} more` : ""}` : "none open any more";
    const one = element(
      "article",
      "story",
      element("h4", "", severity(file.severity), " ", element("span", "mono", visible(file.file.path ?? `${file.file.type} ${file.file.ino}`))),
      element("p", "small", `${visible(file.cause)}${file.file.deleted ? ", deleted" : ""}; ${still}`),
      steps,
    );
    if (file.advice.length) one.append(element("h3", "", "Advice"), element("ul", "", ...file.advice.map((advice) => element("li", "", visible(advice)))));
    part.append(one);
  }
  if (explanation.files.length > MAX_FILES) part.append(element("p", "small", `and ${counted(explanation.files.length - MAX_FILES, "more file")}`));
  return part;
}

function history(fd) {
  const inside = [];
  if (fd.chain?.length) {
    inside.push(element("div", "", "lineage: ", fd.chain.map((link) => `${visible(link.how)} in ${shortened(link.comm, 40)}[${link.pid}]`).join(" → ")));
  }
  if (fd.around?.length) {
    inside.push(element("div", "", "opened shortly before: ", fd.around.map((near) => `${near.fd} (${visible(near.type)}) by ${visible(near.origin)}, ${near.seconds_before} s${near.closed_at ? ", closed since" : ""}`).join("; ")));
  }
  if (fd.outlives !== undefined) inside.push(element("div", "warn", `still open although its connection (fd ${fd.outlives}) was closed`));
  if (fd.stack?.length) inside.push(stack(fd.stack));
  if (inside.length === 0) return visible(fd.origin);
  return element("details", "", element("summary", "", visible(fd.origin)), ...inside);
}

// Files of other types are shared on purpose: standard input and output, or the one inode of all anonymous files.
function groups(list) {
  const held = new Map();
  for (const fd of list) {
    if (fd.file?.type !== "regular") continue;
    const file = `${fd.file.dev} ${fd.file.ino}`;
    held.set(file, [...(held.get(file) ?? []), fd]);
  }
  const duplicates = [...held.values()].filter((some) => some.length > 1);
  return new Map(duplicates.flatMap((some, i) => some.map((fd) => [fd, { name: i + 1, some }])));
}

function fds(list) {
  const of = groups(list);
  const part = element("div", "", element("h3", "", `Descriptors: ${number(list.length)}, ${of.size ? `${number(of.size)} of them duplicates` : "no duplicates"}`));
  const only = element("input", "");
  only.type = "checkbox";
  only.checked = onlyDuplicates;
  part.append(element("label", "", only, " duplicates only"));
  const rows = element("tbody", "");
  const more = element("p", "small");
  const fill = () => {
    const wanted = onlyDuplicates ? list.filter((fd) => of.has(fd)) : list;
    // Omits duplicates last.
    const first = wanted.filter((fd) => of.has(fd)).slice(0, MAX_FDS);
    const rest = wanted.filter((fd) => !of.has(fd)).slice(0, MAX_FDS - first.length);
    const these = [...first, ...rest].sort((one, other) => one.fd - other.fd);
    rows.replaceChildren(...these.map((fd) => line(fd, of.get(fd))));
    more.textContent = wanted.length > these.length ? `and ${number(wanted.length - these.length)} more: see fdwatch fds ${shown}` : "";
  };
  only.addEventListener("change", () => { onlyDuplicates = only.checked; fill(); });
  fill();
  const head = element("tr", "", ...["fd", "Access", "File", "Duplicate of", "Origin", "Opened"].map((name) => {
    const cell = element("th", "", name);
    cell.scope = "col";
    return cell;
  }));
  part.append(element("div", "scroll", element("table", "", element("thead", "", head), rows)), more);
  return part;
}

function line(fd, group) {
  const { file } = fd;
  const path = file ? (file.path ?? `${file.type} ${file.ino}`) : "?";
  const others = group?.some.filter((one) => one !== fd) ?? [];
  const same = (one) => `${one.fd}${one.description === fd.description ? " (dup)" : ""}`;
  const mark = group ? element("span", "dupmark", `◆ ${group.name}: ${others.slice(0, 8).map(same).join(", ")}${others.length > 8 ? " …" : ""}`) : "";
  const flags = [fd.access, fd.append ? "append" : "", fd.cloexec ? "" : "inherited on exec"].filter(Boolean).join(", ");
  return element(
    "tr",
    group ? "dup" : "",
    element("td", "number", String(fd.fd)),
    element("td", "", visible(flags)),
    element("td", "mono", visible(path), file?.deleted ? " (deleted)" : ""),
    element("td", "", mark),
    element("td", "", history(fd)),
    element("td", "number", clock(fd.opened_at)),
  );
}
