// The API as any client sees it. A key goes in a header, so media and events are fetched too.

const KEY = "rushes.key";

/** What the API refused: its words, and the field they are about. */
export class ApiError extends Error {
  constructor(status, { message, param, code }) {
    super(message);
    Object.assign(this, { status, param, code });
  }
}

/** Calls the API; fires `locked` when it wants a key, or another one. */
export class Api extends EventTarget {
  get key() {
    return sessionStorage.getItem(KEY);
  }

  set key(value) {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  }

  /** @throws {ApiError} also when nothing answers: then with status 0. */
  async fetch(path, { method = "GET", json, form, signal, headers: more } = {}) {
    const headers = { ...more };
    const key = this.key;
    if (key) headers.authorization = `Bearer ${key}`;
    if (json) headers["content-type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, {
        method, headers, signal, body: json ? JSON.stringify(json) : form, cache: "no-cache",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, { message: "The service does not answer." });
    }
    if (answer.ok) return answer;
    const refused = await problem(answer);
    // Of two keys the newer counts: an answer to the old one says nothing about it.
    if (refused.status === 401 && key === this.key) this.dispatchEvent(new Event("locked"));
    throw refused;
  }

  async get(path, options) {
    return (await this.fetch(path, options)).json();
  }

  async post(path, options) {
    return this.get(path, { method: "POST", ...options });
  }

  async blob(path) {
    return (await this.fetch(path)).blob();
  }

  /** Server-sent events as `{event, data}`, until the stream ends. */
  async *events(path, signal) {
    const answer = await this.fetch(path, { signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block);
        if (event) yield event;
      }
    }
  }
}

async function problem(answer) {
  try {
    return new ApiError(answer.status, (await answer.json()).error);
  } catch {
    return new ApiError(answer.status, { message: `The service answered ${answer.status}.` });
  }
}

function parsed(block) {
  const fields = Object.fromEntries(
    block.split("\n").filter((line) => !line.startsWith(":")).map((line) => {
      const at = line.indexOf(":");
      return [line.slice(0, at), line.slice(at + 1).trimStart()];
    }),
  );
  return fields.data ? { event: fields.event, data: JSON.parse(fields.data) } : null;
}
