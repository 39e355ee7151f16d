// The page: a form, a gallery, and a door where the service has keys.

import { Api } from "./api.js";
import { Composer } from "./composer.js";
import { Gallery } from "./gallery.js";
import { sentence } from "./words.js";

const LOOK_MS = 5000;
const STATES = {
  starting: "Starting", ready: "Ready", degraded: "Degraded", draining: "Draining", none: "No answer",
};
const $ = (id) => document.getElementById(id);

const api = new Api();
const composer = new Composer(api, (job) => gallery.add(job));
const gallery = new Gallery(api, composer);

/** Show what is there for the one who calls, or ask for a key. */
async function open() {
  try {
    composer.serve((await api.get("v1/models")).data);
  } catch (error) {
    if (error.status === 401) return;
    // The gallery says it, and the next round asks again.
  }
  $("door").hidden = true;
  $("studio").hidden = false;
  $("forget").hidden = !api.key;
  await gallery.open();
}

function lock() {
  const refused = api.key !== null;
  api.key = null;
  gallery.close();
  $("studio").hidden = true;
  $("forget").hidden = true;
  $("door").hidden = false;
  $("key-error").hidden = !refused;
  $("key").focus();
  return refused;
}

api.addEventListener("locked", () => {
  if (lock()) $("key-error").textContent = "This key is not known here, or was revoked.";
});

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = $("key").value.trim();
  if (!given) return $("key").focus();
  // A header takes nothing else.
  if (!/^[\x21-\x7e]+$/.test(given)) {
    $("key-error").textContent = sentence("A key has only letters, digits and signs");
    $("key-error").hidden = false;
    return;
  }
  api.key = given;
  $("key").value = "";
  open();
});

$("forget").addEventListener("click", () => {
  api.key = null;
  lock();
});

async function health() {
  let state = "none";
  try {
    // 503 has a report too.
    state = (await (await fetch("health", { cache: "no-store" })).json()).status;
  } catch {
    // No answer is an answer.
  }
  $("health").dataset.state = state;
  const word = $("health").querySelector(".word");
  const said = STATES[state] ?? state;
  if (word.textContent !== said) word.textContent = said;
}

async function models() {
  if ($("studio").hidden) return;
  try {
    composer.serve((await api.get("v1/models")).data);
  } catch {
    // The gallery says what is wrong.
  }
}

setInterval(() => {
  if (document.hidden) return;
  health();
  models();
}, LOOK_MS);
health();
open();
