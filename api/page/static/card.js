// One video in the gallery.

import { active } from "./watch.js";
import { length, sentence, standing } from "./words.js";

const DOES = {
  queued: ["cancel"],
  in_progress: ["cancel"],
  completed: ["remix", "download", "delete"],
  failed: ["retry", "remix", "delete"],
  cancelled: ["retry", "remix", "delete"],
};

export class Card {
  /** `does` has a function for each action, and for the seed. */
  constructor(api, job, does) {
    this.api = api;
    this.root = document.getElementById("card").content.firstElementChild.cloneNode(true);
    this.urls = [];
    this.$ = (selector) => this.root.querySelector(selector);
    this.root.dataset.id = job.id;
    this.$(".prompt").id = `prompt-${job.id}`;
    this.$("article").setAttribute("aria-labelledby", `prompt-${job.id}`);
    this.$(".seed").addEventListener("click", () => does.seed(this.job));
    this.$(".play").addEventListener("click", () => this.act(() => this.play()));
    for (const button of this.root.querySelectorAll("[data-does]"))
      button.addEventListener("click", () => this.act(() => does[button.dataset.does](this.job, this)));
    this.update(job);
  }

  update(job) {
    // A look that was under way tells less than what is known since.
    if (this.job && !active(this.job) && active(job)) return;
    const before = this.job?.status;
    this.job = job;
    this.until = job.eta_s === null ? null : performance.now() + 1000 * job.eta_s;
    this.root.dataset.status = job.status;
    this.$(".screen").style.aspectRatio = `${job.width} / ${job.height}`;
    this.$(".prompt").textContent = job.prompt;
    this.$(".size").textContent = `${job.width} \u00d7 ${job.height}`;
    this.$(".length").textContent = length(job.num_frames, job.fps);
    this.$(".model").textContent = job.model;
    this.$(".seed").textContent = `seed ${job.seed}`;
    this.$(".seed").setAttribute("aria-label", `Use seed ${job.seed} for a new video`);
    this.bar(job);
    this.tick();
    if (before === job.status) return;
    for (const button of this.root.querySelectorAll("[data-does]"))
      button.hidden = !DOES[job.status].includes(button.dataset.does);
    this.problem(job.error ? job.error.message : null);
    if (!active(job)) this.$(".screen > .preview")?.remove();
    if (job.status === "completed") this.finished();
  }

  bar(job) {
    const bar = this.$("progress");
    bar.hidden = !active(job);
    bar.setAttribute("aria-label", `Progress of ${job.prompt}`);
    if (job.status === "in_progress") bar.value = job.progress;
    else bar.removeAttribute("value");
  }

  /** What is left grows less by itself. */
  tick() {
    const left = this.until === null ? null : Math.max(0, (this.until - performance.now()) / 1000);
    const said = standing(this.job, left);
    if (this.$(".standing").textContent !== said) this.$(".standing").textContent = said;
  }

  /** What is being made, as far as it is. */
  preview(image) {
    if (!active(this.job)) return;
    let shown = this.$(".screen > .preview");
    if (!shown) {
      shown = Object.assign(new Image(), { className: "preview", alt: "" });
      this.$(".screen").prepend(shown);
    }
    shown.src = image;
  }

  finished() {
    const play = this.$(".play");
    play.setAttribute("aria-label", `Play ${this.job.prompt}`);
    play.hidden = false;
    // Only what is seen is loaded.
    this.seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      this.seen.disconnect();
      this.act(() => (this.still ? this.play() : this.poster()));
    });
    this.seen.observe(this.root);
  }

  get still() {
    return this.job.num_frames === 1;
  }

  async poster() {
    try {
      const image = new Image();
      image.alt = "";
      image.src = await this.load("thumbnail");
      await image.decode();
      if (!this.$("video")) this.$(".screen").prepend(image);
    } catch (error) {
      if (error.status !== 404) throw error; // it was made without one
    }
  }

  async play() {
    const screen = this.$(".screen");
    screen.setAttribute("aria-busy", "true");
    try {
      const media = document.createElement(this.still ? "img" : "video");
      if (this.still) media.alt = this.job.prompt;
      else Object.assign(media, { controls: true, loop: true, autoplay: true, playsInline: true });
      media.src = await this.load("video");
      const focused = document.activeElement === this.$(".play");
      this.$(".play").hidden = true;
      screen.querySelector("img")?.remove();
      screen.prepend(media);
      if (focused) media.focus();
    } finally {
      screen.removeAttribute("aria-busy");
    }
  }

  async download() {
    const blob = await this.content("video");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${this.job.id}.${blob.type.split("/")[1] ?? "mp4"}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  content(variant) {
    return this.api.blob(`v1/videos/${this.job.id}/content?variant=${variant}&redirect=false`);
  }

  async load(variant) {
    const url = URL.createObjectURL(await this.content(variant));
    this.urls.push(url);
    return url;
  }

  /** Do it once at a time; what goes wrong is said here. */
  async act(does) {
    if (this.busy) return;
    this.busy = true;
    this.problem(this.job.error?.message ?? null);
    try {
      await does();
    } catch (error) {
      this.problem(error.message);
    } finally {
      this.busy = false;
    }
  }

  problem(message) {
    const shown = this.$(".problem");
    shown.hidden = message === null;
    shown.textContent = message === null ? "" : sentence(message);
  }

  remove() {
    this.seen?.disconnect();
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.root.remove();
  }
}
