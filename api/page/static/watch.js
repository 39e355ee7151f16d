// Follows the jobs that are not done. A browser opens six connections to a host, over all its tabs:
// so a few jobs are streamed, only while the tab is seen, and the others looked at now and then.

import { route, time } from "./ids.js";

const STREAMS = 2;
const LOOK_MS = 5000;

export const active = (job) => job.status === "queued" || job.status === "in_progress";

export class Watch {
  /**
   * `jobs()` gives those that are known, `tell(job)`, `show(id, image)` and `gone(id)` hear what
   * happens to them, and `look()` brings what no stream tells.
   */
  constructor(api, { jobs, tell, show, gone, look }) {
    Object.assign(this, { api, jobs, tell, show, gone, look });
    this.streams = new Map();
    this.timer = null;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.letGo();
      else if (this.timer) this.look();
    });
  }

  start() {
    this.stop();
    this.timer = setInterval(() => document.hidden || this.look(), LOOK_MS);
    this.choose();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.letGo();
  }

  letGo() {
    for (const stream of this.streams.values()) stream.abort();
  }

  /** Stream those that come first in line. */
  choose() {
    if (!this.timer || document.hidden) return;
    const waiting = this.jobs().filter((job) => active(job) && !this.streams.has(job.id));
    waiting.sort((a, b) => runs(b) - runs(a) || (time(a.id) < time(b.id) ? -1 : 1));
    for (const job of waiting.slice(0, Math.max(0, STREAMS - this.streams.size))) this.follow(job.id);
  }

  async follow(id) {
    const stop = new AbortController();
    this.streams.set(id, stop);
    let ended = false;
    try {
      for await (const { event, data } of this.api.events(`${route(id)}/events`, stop.signal)) {
        if (event === "preview") {
          this.show(data.id, data.image);
          continue;
        }
        ended = event === "deleted" || !active(data);
        if (event === "deleted") this.gone(data.id);
        else this.tell(data);
      }
    } catch {
      // Broken off or refused: the next look tells what became of the job, and chooses anew.
    } finally {
      this.streams.delete(id);
    }
    if (ended) this.choose();
  }
}

const runs = (job) => job.status === "in_progress";
