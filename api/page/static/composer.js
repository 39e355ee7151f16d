// The form: a new video, a new image where the model makes nothing else, or a remix of a video.

import { Fields } from "./fields.js";
import { ImageField } from "./image.js";
import { length } from "./words.js";

const $ = (id) => document.getElementById(id);
const NUMBERS = ["num_inference_steps", "guidance_scale", "seed", "num_outputs"];
const OF_IMAGES = { num_outputs: "n" }; // what /v1/images calls them

export class Composer {
  /** `made(job)` hears of each new job. */
  constructor(api, made) {
    this.api = api;
    this.made = made;
    this.models = [];
    this.remixed = null;
    this.form = $("composer");
    this.fields = new Fields(this.form);
    this.image = new ImageField($("image-field"));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    });
    $("model").addEventListener("change", () => this.fit());
    $("size").addEventListener("change", () => this.custom());
    $("length").addEventListener("input", () => this.sayLength());
    $("stop-remixing").addEventListener("click", () => this.remix(null));
  }

  /** What is served; what has been chosen stays chosen. */
  serve(models) {
    const same = JSON.stringify(models.map(shape)) === JSON.stringify(this.models.map(shape));
    this.models = models;
    if (same && $("model").options.length) return;
    const chosen = $("model").value;
    const options = models.map((model) => new Option(model.id, model.id));
    $("model").replaceChildren(...(options.length ? options : [new Option("None is up yet", "")]));
    if (models.some((model) => model.id === chosen)) $("model").value = chosen;
    $("model").disabled = models.length < 2;
    this.fit();
  }

  get model() {
    const model = this.models.find((each) => each.id === $("model").value);
    return model?.family ? model : null;
  }

  /** Whether the model makes images and nothing else. */
  get still() {
    return Boolean(this.model?.workloads.every((each) => each.endsWith("2i")));
  }

  /** Offer what the model can do. */
  fit() {
    const model = this.model;
    for (const id of ["size", "length", ...NUMBERS]) $(id).disabled = !model;
    this.image.offer(model);
    this.sizes(model);
    this.words();
    for (const name of ["num_inference_steps", "guidance_scale"])
      $(name).placeholder = model ? `${model.defaults[name]}` : "";
    if (!model) return this.sayLength();
    const { frame_step: step, max_num_frames: most, max_outputs } = model.limits;
    $("num_outputs").max = max_outputs;
    $("outputs-field").hidden = max_outputs === 1;
    const still = model.workloads.some((each) => each.endsWith("2i"));
    Object.assign($("length"), {
      min: still ? 0 : 1,
      max: Math.floor((most - 1) / step),
      value: Math.floor((model.defaults.num_frames - 1) / step),
    });
    $("length-field").hidden = this.still || most === 1;
    this.sayLength();
  }

  sizes(model) {
    const options = sizes(model).map(([w, h]) => new Option(`${w} \u00d7 ${h} ${form(w, h)}`, `${w}x${h}`));
    $("size").replaceChildren(...options, new Option("Another size", ""));
    if (model) {
      $("width").value = model.defaults.width;
      $("height").value = model.defaults.height;
      for (const id of ["width", "height"]) $(id).step = model.limits.size_multiple;
    }
    this.custom();
  }

  custom() {
    $("custom").hidden = !this.model || $("size").value !== "";
  }

  /** Say what will be made. */
  words() {
    const thing = this.still ? "image" : "video";
    this.form.setAttribute("aria-label", `New ${thing}`);
    $("prompt").placeholder = this.still ? "What is to be seen" : "What is to be seen, and how it moves";
    $("submit").textContent = `Make ${this.remixed ? "remix" : thing}`;
  }

  get frames() {
    return Number($("length").value) * this.model.limits.frame_step + 1;
  }

  sayLength() {
    const model = this.model;
    const frames = model ? this.frames : 0;
    const said = frames > 1 ? `${length(frames, model.defaults.fps)}, ${frames} frames` : "a still image";
    $("length-said").textContent = frames ? said : "";
    $("length").setAttribute("aria-valuetext", said);
  }

  /** Take a seed from a video or an image. */
  seed(seed) {
    this.remix(null);
    $("more").open = true;
    $("seed").value = seed;
    $("seed").focus();
  }

  /** Remix `job`; null: no more. */
  remix(job) {
    if (!job && !this.remixed) return;
    this.remixed = job;
    this.fields.clear();
    $("remixing").hidden = !job;
    $("choices").hidden = Boolean(job);
    this.words();
    if (job) {
      $("remixed").textContent = job.prompt;
      $("prompt").value = job.prompt;
    }
    $("prompt").focus();
    $("prompt").select();
    this.form.scrollIntoView({ block: "nearest" });
  }

  async submit() {
    if ($("submit").disabled) return;
    this.fields.clear();
    $("submit").disabled = true;
    try {
      const job = await this.send();
      this.remix(null);
      this.made(job);
    } catch (error) {
      this.fields.show(error);
    } finally {
      $("submit").disabled = false;
    }
  }

  send() {
    const prompt = $("prompt").value;
    if (this.remixed) return this.api.post(`v1/videos/${this.remixed.id}/remix`, { json: { prompt } });
    const body = { prompt, ...this.settings() };
    const file = this.image.file;
    if (this.still) {
      const edits = file || !this.model.workloads.includes("t2i");
      const headers = { prefer: "respond-async" };
      return this.post(`v1/images/${edits ? "edits" : "generations"}`, body, "image", file, headers);
    }
    return this.post("v1/videos", body, "input_reference", file);
  }

  /** JSON, or a form where there is a file. */
  post(path, body, name, file, headers) {
    if (!file) return this.api.post(path, { json: body, headers });
    const form = new FormData();
    for (const [key, value] of Object.entries(body)) form.set(key, value);
    form.set(name, file);
    return this.api.post(path, { form, headers });
  }

  settings() {
    if (!this.model) return {};
    const given = { model: this.model.id };
    if (!this.still) given.num_frames = this.frames;
    if ($("size").value) given.size = $("size").value;
    else Object.assign(given, { width: number("width"), height: number("height") });
    if ($("negative_prompt").value.trim()) given.negative_prompt = $("negative_prompt").value;
    for (const name of NUMBERS)
      if ($(name).value !== "") given[this.still ? (OF_IMAGES[name] ?? name) : name] = number(name);
    return given;
  }
}

const number = (id) => Number($(id).value);

/** What the form is built from. */
const shape = ({ id, family, workloads, defaults, limits }) => ({ id, family, workloads, defaults, limits });

function form(width, height) {
  return width === height ? "square" : width > height ? "landscape" : "portrait";
}

/** The model's own size first, then the same turned, square and half as large, as far as it allows. */
function sizes(model) {
  if (!model) return [];
  const { width: w, height: h } = model.defaults;
  const { max_width, max_height, size_multiple: by } = model.limits;
  const near = (pixels) => Math.max(by, Math.round(pixels / by) * by);
  const side = near(Math.sqrt(w * h));
  const wanted = [[w, h], [h, w], [side, side], [near(w / 2), near(h / 2)], [near(h / 2), near(w / 2)]];
  if (w === h) wanted.splice(1, 0, [near(w * 1.25), near(w * 0.75)], [near(w * 0.75), near(w * 1.25)]);
  const allowed = wanted.filter(([x, y]) => x <= max_width && y <= max_height);
  return [...new Map(allowed.map((size) => [size.join("x"), size])).values()];
}
