// Requests to the agent, with the token if there is one.

import { at } from "./dom.js";

// The key of the token in the session storage.
const TOKEN_KEY = "fdwatch-token";
// Length limit of a line: characters.
const MAX_LINE = 8 << 20;

const waiting = [];

// A request that is rejected for lack of a token waits until there is one.
async function request(path, signal) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN_KEY);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch(path, { headers, signal, cache: "no-store" });
    if (response.status !== 401) return response;
    await response.body?.cancel();
    await promptForToken(token);
  }
}

// Shows the form, unless another token was stored meanwhile. Resolves when there is a token to try.
function promptForToken(rejected) {
  const form = at("token");
  if (sessionStorage.getItem(TOKEN_KEY) !== rejected) return Promise.resolve();
  at("token-why").textContent = rejected
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
    sessionStorage.setItem(TOKEN_KEY, token);
    at("token-value").value = "";
    at("token").hidden = true;
    at("filter").focus();
    for (const resolve of waiting.splice(0)) resolve();
  });
}

// Returns the object of a response. Throws the agent's error, except for the status codes in `also`.
export async function get(path, { signal, also = [] } = {}) {
  const response = await request(path, signal);
  const body = await response.json();
  if (!response.ok && !also.includes(response.status)) throw new Error(body.error ?? `status ${response.status}`);
  return body;
}

// Passes the object of each line to `take`, until the agent or `signal` ends the stream.
export async function lines(path, signal, take) {
  const response = await request(path, signal);
  if (!response.ok) throw new Error((await response.json()).error ?? `status ${response.status}`);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    if (rest.length > MAX_LINE) throw new Error("a line is too long");
    const whole = rest.split("\n");
    rest = whole.pop();
    for (const line of whole) if (line) take(JSON.parse(line));
  }
}
