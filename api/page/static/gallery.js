// One's videos and images, the newest first.

import { Card } from "./card.js";
import { KINDS, kind, route, time } from "./ids.js";
import { active, Watch } from "./watch.js";

const PAGE = 24;
const $ = (id) => document.getElementById(id);

export class Gallery {
  constructor(api, composer) {
    this.api = api;
    this.composer = composer;
    this.cards = new Map();
    this.looking = null;
    this.more = new Map(); // kind -> whether its list goes on below what was loaded
    this.watch = new Watch(api, {
      jobs: () => [...this.cards.values()].map((card) => card.job),
      tell: (job) => this.put(job),
      show: (id, image) => this.cards.get(id)?.preview(image),
      gone: (id) => this.drop(id),
      look: () => this.look(),
    });
    this.acts = {
      cancel: async ({ id }) => this.put(await api.post(`${route(id)}/cancel`)),
      retry: async ({ id }) => this.add(await api.post(`${route(id)}/retry`)),
      remix: (job) => composer.remix(job),
      download: (_, card) => card.download(),
      delete: (job) => this.delete(job),
      seed: (seed) => composer.seed(seed),
    };
    $("older").addEventListener("click", () => this.older());
    $("gallery-problem").querySelector("button").addEventListener("click", () => this.look());
    setInterval(() => {
      for (const card of this.cards.values()) if (active(card.job)) card.tick();
    }, 1000);
  }

  /** Load the list and follow it. */
  async open() {
    this.watch.start();
    await this.look();
  }

  /** Forget everything: somebody else may come. */
  close() {
    this.watch.stop();
    for (const id of [...this.cards.keys()]) this.drop(id);
    this.more.clear();
    $("empty").hidden = true;
  }

  /** Bring the newest up to date, and those that still run further down. */
  look() {
    this.looking ??= this.refresh().finally(() => (this.looking = null));
    return this.looking;
  }

  async refresh() {
    const known = [...this.cards.keys()];
    try {
      await Promise.all(KINDS.map((each) => this.renew(each, known.filter((id) => kind(id) === each))));
      this.settled();
    } catch (error) {
      this.failed(error);
    }
    this.watch.choose();
  }

  async renew(each, known) {
    const page = await this.api.get(`v1/${each}s?limit=${PAGE}`);
    const listed = new Set(page.data.map((job) => job.id));
    for (const job of page.data) this.put(job);
    for (const id of known) {
      if (listed.has(id)) continue;
      if (!page.has_more || id > page.last_id) this.drop(id);
      else if (active(this.cards.get(id).job)) this.put(await this.api.get(route(id)));
    }
    if (!this.more.has(each)) this.more.set(each, page.has_more);
  }

  /** The list that ends first goes on. */
  async older() {
    const last = this.end();
    $("older").disabled = true;
    try {
      const page = await this.api.get(`v1/${kind(last)}s?limit=${PAGE}&after=${last}`);
      for (const job of page.data) this.put(job);
      this.more.set(kind(last), page.has_more);
      this.settled();
    } catch (error) {
      this.failed(error);
    } finally {
      $("older").disabled = false;
    }
  }

  /** The newest id at which a list that goes on breaks off; undefined: everything is loaded. */
  end() {
    const ids = [...this.cards.keys()].sort(byTime);
    const ends = KINDS.filter((each) => this.more.get(each)).map((each) => ids.find((id) => kind(id) === each));
    return ends.filter(Boolean).sort(byTime).at(-1);
  }

  /** Below the end of one list those of the other would stand without their neighbours. */
  fold() {
    const end = this.end();
    for (const [id, card] of this.cards) card.root.hidden = Boolean(end) && byTime(id, end) < 0;
    $("older").hidden = !end;
  }

  settled() {
    $("gallery-problem").hidden = true;
    $("cards").querySelectorAll(".ghost").forEach((ghost) => ghost.remove());
    $("cards").setAttribute("aria-busy", "false");
    $("empty").hidden = this.cards.size > 0;
    this.fold();
  }

  failed(error) {
    if (error.status === 401) return; // the door is shown instead
    const problem = $("gallery-problem");
    problem.querySelector("p").textContent = `The gallery could not be brought up to date. ${error.message}`;
    problem.hidden = false;
  }

  /** A job that was made here. */
  add(job) {
    this.put(job);
    this.settled();
    this.watch.choose();
    const { root } = this.cards.get(job.id);
    root.scrollIntoView({ block: "nearest", behavior: "smooth" });
    $("said").textContent = "In line.";
  }

  put(job) {
    const card = this.cards.get(job.id);
    if (!card) return this.insert(job);
    const before = card.job.status;
    card.update(job);
    if (before !== card.job.status && !active(card.job))
      $("said").textContent = `${card.job.status}: ${card.job.prompt}`;
  }

  insert(job) {
    const card = new Card(this.api, job, this.acts);
    const below = [...$("cards").children].find(
      (each) => !each.dataset.id || byTime(each.dataset.id, job.id) < 0,
    );
    this.cards.set(job.id, card);
    $("cards").insertBefore(card.root, below ?? null);
  }

  async delete(job) {
    if (!(await sure(job))) return;
    await this.api.fetch(route(job.id), { method: "DELETE" });
    this.drop(job.id);
    $("said").textContent = "Deleted.";
    $("gallery").focus({ preventScroll: true });
  }

  drop(id) {
    this.cards.get(id)?.remove();
    this.cards.delete(id);
    $("empty").hidden = this.cards.size > 0;
  }
}

const byTime = (a, b) => (time(a) < time(b) ? -1 : 1);

function sure(job) {
  const dialog = $("sure");
  $("sure-title").textContent = `Delete this ${job.object}?`;
  dialog.querySelector(".prompt").textContent = job.prompt;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
