// Elements of the page. Names and paths are untrusted, so everything is added as text.

export const at = (id) => document.getElementById(id);

// Creates an element with a class and content: text or other elements.
export function element(name, kind, ...inside) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.append(...inside.filter((one) => one !== null && one !== undefined));
  return made;
}

// Invisible characters, and those that change the direction of text, are shown as code points.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;
export function visible(text) {
  return String(text ?? "").replace(UNSEEN, (char) => {
    if (char === "\n") return "\\n";
    if (char === "\t") return "\\t";
    return `\\u{${char.codePointAt(0).toString(16)}}`;
  });
}

// Shortens a name for a list. Details show the whole name.
export function shortened(text, most = 300) {
  const shown = visible(text);
  return shown.length > most ? `${shown.slice(0, most)}… (${shown.length - most} more characters)` : shown;
}

export const number = (value) => (value ?? 0).toLocaleString("en");

// A number and its noun, given in the singular.
export const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;

export function percent(share) {
  return share === null || share === undefined ? "–" : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86400)} d`;
}

export const since = (time) => span((Date.now() - Date.parse(time)) / 1000);

// The time of day in the viewer's time zone.
export function clock(time) {
  if (!time) return element("span", "when", "–");
  const shown = element("time", "", new Date(time).toLocaleTimeString("en-GB"));
  shown.dateTime = time;
  shown.title = time;
  return shown;
}

const MARKS = { critical: "✖ critical", warning: "▲ warning", info: "● info" };
export const severity = (name) => element("span", `sev ${name in MARKS ? name : ""}`, MARKS[name] ?? visible(name));

// A chart of counts over time, oldest first.
export function curve(counts, what) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const [width, height] = [100, 24];
  svg.setAttribute("class", "curve");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const highest = Math.max(1, ...counts);
  const step = counts.length > 1 ? width / (counts.length - 1) : width;
  const points = counts.map((count, i) => `${(i * step).toFixed(1)},${(height - 1 - (count / highest) * (height - 2)).toFixed(1)}`);
  if (points.length === 1) points.push(`${width},${points[0].split(",")[1]}`);
  const title = document.createElementNS(space, "title");
  title.textContent = counts.length
    ? `${what}: ${counts[0]} to ${counts[counts.length - 1]} in ${span((counts.length - 1) * 5)}, between ${Math.min(...counts)} and ${Math.max(...counts)}`
    : `${what}: no data yet`;
  svg.append(title);
  if (points.length) {
    const line = document.createElementNS(space, "path");
    line.setAttribute("d", `M${points.join("L")}`);
    const under = document.createElementNS(space, "path");
    under.setAttribute("class", "under");
    under.setAttribute("d", `M0,${height}L${points.join("L")}L${width},${height}Z`);
    svg.append(under, line);
  }
  return svg;
}

// Replaces the children of a list, and restores the focus by `data-key`.
export function replace(list, children) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  list.replaceChildren(...children);
  if (focused === undefined) return;
  const again = [...list.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused);
  (again ?? list.querySelector("button") ?? list.closest("[tabindex]"))?.focus({ preventScroll: true });
}
