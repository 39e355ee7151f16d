// What a finished job made: one of its outputs on the screen, all of them to choose from below it.

import { route } from "./ids.js";

export class Screen {
  /** `chosen(output)` hears which one is shown, `failed(error)` what could not be loaded. */
  constructor(api, root, job, { chosen, failed }) {
    Object.assign(this, { api, job, chosen, failed });
    this.root = root.querySelector(".screen");
    this.button = root.querySelector(".play");
    this.choices = root.querySelector(".outputs");
    this.outputs = job.artifacts.filter(({ kind }) => kind === "video" || kind === "image");
    this.index = 0;
    this.turn = 0;
    this.urls = new Map();
    this.button.setAttribute("aria-label", `Play ${job.prompt}`);
    this.button.hidden = this.still;
    this.offer();
    // Only what is seen is loaded.
    this.seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      this.seen.disconnect();
      this.choose(0);
      this.picture();
    });
    this.seen.observe(root);
  }

  get output() {
    return this.outputs[this.index];
  }

  get still() {
    return this.output.kind === "image";
  }

  /** A button for each of several. */
  offer() {
    const count = this.outputs.length;
    this.choices.hidden = count === 1;
    this.choices.replaceChildren(...this.outputs.map(({ seed }, index) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.append(Object.assign(document.createElement("span"), { textContent: index + 1 }));
      button.setAttribute("aria-label", `Output ${index + 1} of ${count}, seed ${seed}`);
      button.setAttribute("aria-pressed", index === this.index);
      button.addEventListener("click", () => this.choose(index));
      return button;
    }));
  }

  /** Small pictures for the buttons. */
  async picture() {
    const buttons = [...this.choices.children];
    if (buttons.length === 1) return;
    for (const [index, button] of buttons.entries()) {
      try {
        const image = Object.assign(new Image(), { alt: "" });
        image.src = await this.load(this.still ? "video" : "thumbnail", index);
        button.prepend(image);
      } catch (error) {
        if (error.status !== 404) return this.failed(error);
      }
    }
  }

  /** Show an output; the next one plays on where one played. */
  async choose(index) {
    const played = this.media()?.matches("video");
    this.index = index;
    [...this.choices.children].forEach((each, at) => each.setAttribute("aria-pressed", at === index));
    this.media()?.remove();
    this.button.hidden = this.still;
    this.chosen(this.output);
    try {
      await (this.still || played ? this.play() : this.poster());
    } catch (error) {
      this.failed(error);
    }
  }

  async poster() {
    try {
      await this.show(Object.assign(new Image(), { alt: "" }), "thumbnail");
    } catch (error) {
      if (error.status !== 404) throw error; // it was made without one
    }
  }

  async play() {
    const media = document.createElement(this.still ? "img" : "video");
    if (this.still) media.alt = this.job.prompt;
    else Object.assign(media, { controls: true, loop: true, autoplay: true, playsInline: true });
    if (!(await this.show(media, "video"))) return;
    const focused = document.activeElement === this.button;
    this.button.hidden = true;
    if (focused) media.focus();
  }

  /** False: something else was to be shown meanwhile. */
  async show(media, variant) {
    const turn = ++this.turn;
    this.root.setAttribute("aria-busy", "true");
    try {
      media.src = await this.load(variant, this.index);
      if (media.decode) await media.decode();
      if (turn !== this.turn) return false;
      this.media()?.remove();
      this.root.prepend(media);
      return true;
    } finally {
      if (turn === this.turn) this.root.removeAttribute("aria-busy");
    }
  }

  media() {
    return this.root.querySelector(":scope > :is(img, video)");
  }

  async download() {
    const { index } = this;
    const blob = await this.content("video", index);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${this.job.id}${index ? `-${index}` : ""}.${blob.type.split("/")[1] ?? "mp4"}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  content(variant, index) {
    const query = `variant=${variant}&index=${index}&redirect=false`;
    return this.api.blob(`${route(this.job.id)}/content?${query}`);
  }

  /** The address of a file here; each is fetched once. */
  load(variant, index) {
    const name = `${variant} ${index}`;
    if (!this.urls.has(name)) {
      const url = this.content(variant, index).then((blob) => URL.createObjectURL(blob));
      url.catch(() => this.urls.delete(name));
      this.urls.set(name, url);
    }
    return this.urls.get(name);
  }

  close() {
    this.seen.disconnect();
    for (const url of this.urls.values()) url.then(URL.revokeObjectURL, () => {});
  }
}
