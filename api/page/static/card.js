// One job in the gallery.

import { Screen } from "./screen.js";
import { active } from "./watch.js";
import { length, sentence, standing } from "./words.js";

const DOES = {
  queued: ["cancel"],
  in_progress: ["cancel"],
  completed: ["remix", "download", "delete"],
  failed: ["retry", "remix", "delete"],
  cancelled: ["retry", "remix", "delete"],
};

// An image has no remix in the API.
const does = ({ status, object }) => DOES[status].filter((each) => each !== "remix" || object === "video");

export class Card {
  /** `acts` has a function for each action, and for the seed. */
  constructor(api, job, acts) {
    this.api = api;
    this.root = document.getElementById("card").content.firstElementChild.cloneNode(true);
    this.screen = null;
    this.$ = (selector) => this.root.querySelector(selector);
    this.root.dataset.id = job.id;
    this.$(".prompt").id = `prompt-${job.id}`;
    this.$("article").setAttribute("aria-labelledby", `prompt-${job.id}`);
    this.$(".seed").addEventListener("click", () => acts.seed(this.seed));
    this.$(".play").addEventListener("click", () => this.act(() => this.screen.play()));
    for (const button of this.root.querySelectorAll("[data-does]"))
      button.addEventListener("click", () => this.act(() => acts[button.dataset.does](this.job, this)));
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
    this.$(".count").textContent = job.num_outputs > 1 ? `${job.num_outputs} outputs` : "";
    this.saySeed();
    this.bar(job);
    this.tick();
    if (before === job.status) return;
    for (const button of this.root.querySelectorAll("[data-does]"))
      button.hidden = !does(job).includes(button.dataset.does);
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
    this.screen = new Screen(this.api, this.root, this.job, {
      chosen: () => this.saySeed(),
      failed: (error) => this.problem(error.message),
    });
  }

  /** Of the output that is shown. */
  get seed() {
    return this.screen?.output.seed ?? this.job.seed;
  }

  saySeed() {
    this.$(".seed").textContent = `seed ${this.seed}`;
    this.$(".seed").setAttribute("aria-label", `Use seed ${this.seed} again`);
  }

  download() {
    return this.screen.download();
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
    this.screen?.close();
    this.root.remove();
  }
}
