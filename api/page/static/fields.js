// What the API says about a field is shown below that field.

import { sentence } from "./words.js";

export class Fields {
  constructor(form) {
    this.form = form;
    this.rest = form.querySelector("#form-error");
    form.addEventListener("input", (event) => {
      const field = event.target.closest(".field");
      if (field) clear(field);
    });
  }

  clear() {
    this.form.querySelectorAll(".field").forEach(clear);
    this.rest.hidden = true;
  }

  /** Show an ApiError, and go there. */
  show(error) {
    const param = error.param ?? "";
    const field = [...this.form.querySelectorAll(".field")].find((each) =>
      each.dataset.params.split(" ").includes(param.split(/[.[]/)[0]),
    );
    if (!field || field.closest("[hidden]")) {
      this.rest.textContent = sentence(error.message);
      this.rest.hidden = false;
      return;
    }
    const problem = field.querySelector(".problem");
    problem.textContent = sentence(error.message, param);
    problem.hidden = false;
    const details = field.closest("details");
    if (details) details.open = true;
    const inputs = [...field.querySelectorAll("input, select, textarea")];
    for (const input of inputs) input.setAttribute("aria-invalid", "true");
    (inputs.find((input) => input.id === param) ?? inputs[0]).focus();
  }
}

function clear(field) {
  field.querySelector(".problem").hidden = true;
  for (const input of field.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}
