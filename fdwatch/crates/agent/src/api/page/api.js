// Asks the agent, with the token if one was given.

import { at } from "./dom.js";

const KEPT = "fdwatch-token";
// A line of the agent's is never so long.
const LONGEST = 8 << 20;

const waiting = [];

// A request that is refused for want of a token waits until there is one.
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
    ? "The agent does not know the token that was given."
    : "The agent lets in who shows the token in its token_file.";
  if (form.hidden) {
    form.hidden = false;
    if (!document.querySelector("dialog[open]")) at("token-value").focus();
  }
  return new Promise((resolve) => waiting.push(resolve));
}

export function begin() {
  at("token").addEventListener("submit", (event) => {
    event.preventDefault();
    // What cannot stand in a header is no token.
    const token = at("token-value").value.trim();
    if (!/^[\x21-\x7e]+$/.test(token)) {
      at("token-why").textContent = "A token has no spaces, and ASCII characters alone.";
      return;
    }
    sessionStorage.setItem(KEPT, token);
    at("token-value").value = "";
    at("token").hidden = true;
    at("filter").focus();
    for (const resolve of waiting.splice(0)) resolve();
  });
}

// The object that is answered. Throws with the agent's reason.
export async function get(path, { signal, also = [] } = {}) {
  const answer = await ask(path, signal);
  const body = await answer.json();
  if (!answer.ok && !also.includes(answer.status)) throw new Error(body.error ?? `status ${answer.status}`);
  return body;
}

// Gives each line's object to `take`, until the agent ends it or `signal` does.
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
    if (rest.length > LONGEST) throw new Error("a line has no end");
    const whole = rest.split("\n");
    rest = whole.pop();
    for (const line of whole) if (line) take(JSON.parse(line));
  }
}
