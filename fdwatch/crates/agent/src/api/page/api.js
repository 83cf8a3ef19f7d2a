// Requests to the agent, with the token if there is one.

import { at } from "./dom.js";

const KEPT = "fdwatch-token";
// Length limit of a line.
const LONGEST = 8 << 20;

const waiting = [];

// A request that is rejected for lack of a token waits until there is one.
async function ask(path, signal) {
  for (;;) {
    const token = sessionStorage.getItem(KEPT);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(path, { headers, signal, cache: "no-store" });
    if (answer.status !== 401) return answer;
    await answer.body?.cancel();
    await wanted(token);
  }
}

function wanted(refused) {
  const form = at("token");
  if (sessionStorage.getItem(KEPT) !== refused) return Promise.resolve();
  at("token-why").textContent = refused
    ? "The agent rejected this token."
    : "The agent requires the token from its token_file.";
  if (form.hidden) {
    form.hidden = false;
    if (!document.querySelector("dialog[open]")) at("token-value").focus();
  }
  return new Promise((resolve) => waiting.push(resolve));
}

export function begin() {
  at("token").addEventListener("submit", (event) => {
    event.preventDefault();
    // A token must be valid in a header.
    const token = at("token-value").value.trim();
    if (!/^[\x21-\x7e]+$/.test(token)) {
      at("token-why").textContent = "A token consists of ASCII characters without spaces.";
      return;
    }
    sessionStorage.setItem(KEPT, token);
    at("token-value").value = "";
    at("token").hidden = true;
    at("filter").focus();
    for (const resolve of waiting.splice(0)) resolve();
  });
}

// Returns the object of an answer. Throws the agent's error.
export async function get(path, { signal, also = [] } = {}) {
  const answer = await ask(path, signal);
  const body = await answer.json();
  if (!answer.ok && !also.includes(answer.status)) throw new Error(body.error ?? `status ${answer.status}`);
  return body;
}

// Passes the object of each line to `take`, until the agent or `signal` ends the stream.
export async function lines(path, signal, take) {
  const answer = await ask(path, signal);
  if (!answer.ok) throw new Error((await answer.json()).error ?? `status ${answer.status}`);
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    if (rest.length > LONGEST) throw new Error("a line is too long");
    const whole = rest.split("\n");
    rest = whole.pop();
    for (const line of whole) if (line) take(JSON.parse(line));
  }
}
