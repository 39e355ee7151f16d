// The image field: choose, drop or paste.

export class ImageField {
  constructor(root) {
    this.root = root;
    this.input = root.querySelector("input");
    this.shown = root.querySelector("#image-shown");
    this.remove = root.querySelector("#image-clear");
    const drop = root.querySelector("#drop");
    this.input.addEventListener("change", () => this.show());
    this.remove.addEventListener("click", () => {
      this.clear();
      this.input.focus();
    });
    for (const name of ["dragenter", "dragover"])
      drop.addEventListener(name, () => drop.classList.add("over"));
    for (const name of ["dragleave", "drop"])
      drop.addEventListener(name, () => drop.classList.remove("over"));
    document.addEventListener("paste", (event) => {
      if (this.root.hidden || !event.clipboardData?.files.length) return;
      this.input.files = event.clipboardData.files;
      this.input.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }

  get file() {
    return this.root.hidden ? null : (this.input.files[0] ?? null);
  }

  /** Offer it where the model takes images. */
  offer(card) {
    this.root.hidden = !(card?.limits.max_images > 0);
    const needed = card && !card.workloads.some((each) => each.startsWith("t2"));
    this.root.querySelector("#image-need").textContent = needed ? "needed" : "optional";
  }

  clear() {
    this.input.value = "";
    this.show();
  }

  show() {
    URL.revokeObjectURL(this.shown.src);
    const file = this.input.files[0];
    if (file) this.shown.src = URL.createObjectURL(file);
    else this.shown.removeAttribute("src");
    this.shown.hidden = this.remove.hidden = !file;
    this.root.querySelector("#image-hint").textContent = file ? file.name : "Choose, drop or paste one";
  }
}
