// Keys, edits and what is said when the server is silent. The pages work without it, but for keys and edits.
"use strict";

const byId = (id) => document.getElementById(id);
const words = "textarea, input:not([type=radio]):not([type=checkbox])";

function say(text, problem = false) {
  const said = byId("said");
  said.classList.toggle("problem", problem);
  said.textContent = text;
}

function lettersWork() {
  return localStorage.getItem("letters") !== "off";
}

// --- edits: a field is sent only where it is open ---

function toggleEdit(side) {
  const field = byId(`${side}-edit`), text = byId(`${side}-text`), button = document.querySelector(`[data-edit=${side}]`);
  const open = field.hidden;
  if (!open) field.value = field.dataset.original;
  else field.dataset.original ??= field.value;
  field.hidden = field.disabled = !open;
  text.hidden = open;
  button.setAttribute("aria-expanded", String(open));
  button.querySelector("span").textContent = open ? "Restore" : "Edit";
  (open ? field : button).focus();
}

// --- ratings: a digit answers the question that has the focus, or the first that is open, and goes on to the next ---

function openRating() {
  return [...document.querySelectorAll(".rating")].find((each) => !each.querySelector("input:checked"));
}

function markRating() {
  const now = openRating();
  for (const each of document.querySelectorAll(".rating")) each.classList.toggle("now", each === now);
}

function rate(digit) {
  const group = document.activeElement.closest?.(".rating") ?? openRating();
  const radio = group?.querySelector(`input[value="${digit}"]`);
  if (!radio) return false;
  radio.checked = true;
  const next = openRating();
  if (next) next.querySelector("input").focus();
  else radio.blur();
  markRating();
  return true;
}

// --- keys ---

function press(element) {
  if (element.matches("textarea")) element.focus();
  else element.click();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const target = event.target;
  if (target.matches(words)) {
    if (event.key === "Escape") byId("heading").focus();
    return;
  }
  if (event.repeat || !lettersWork()) return;
  let key = event.key.toLowerCase();
  if (key === "arrowleft" || key === "arrowright") {
    if (target.matches("input, .asked")) return; // a scale moves by arrows
    key = key === "arrowleft" ? "f" : "j";
  }
  if (/^[1-5]$/.test(key)) {
    if (rate(key)) event.preventDefault();
    return;
  }
  const begin = byId("begin");
  if (key === "enter" && begin && !target.matches("a, button, input")) return begin.click();
  const found = /^[a-z]$/.test(key) && document.querySelector(`[data-key="${key}"]`);
  if (!found || found.disabled) return;
  event.preventDefault();
  press(found);
});

document.addEventListener("click", (event) => {
  const edit = event.target.closest("[data-edit]");
  if (edit) toggleEdit(edit.dataset.edit);
});

document.addEventListener("change", (event) => {
  if (event.target.id === "letters") localStorage.setItem("letters", event.target.checked ? "on" : "off");
  if (event.target.matches(".rating input")) markRating();
});

// --- what becomes of a judgement ---

let sent = "";

document.addEventListener("submit", (event) => {
  sent = event.submitter?.querySelector("span")?.textContent ?? "";
  event.submitter?.classList.add("pressed");
}, true);

function unsaved(why) {
  sent = "";
  for (const each of document.querySelectorAll(".pressed")) each.classList.remove("pressed");
  say(why, true);
}

document.addEventListener("htmx:error", () => {
  unsaved("The review does not answer, so this may not be saved. What you wrote is still here; press again when it is back.");
});

document.addEventListener("htmx:before:swap", (event) => {
  const answer = event.detail?.ctx?.response;
  if (!answer || answer.status < 500) return;
  event.preventDefault(); // the page stays, with what was written
  unsaved("Not saved: the review could not write it down. Tell whoever runs it; then press again.");
});

function arrived() {
  const letters = byId("letters");
  if (letters) letters.checked = lettersWork();
  const asked = document.querySelector(".asked"), last = asked?.querySelector(".label:nth-last-child(2)");
  if (last) asked.scrollTop = last.offsetTop - 12; // of a long conversation the question is seen
  markRating();
}

document.addEventListener("htmx:after:swap", () => {
  arrived();
  const refused = document.querySelector("#judgement > .notice");
  say(sent && !refused ? `Saved: ${sent.toLowerCase()}.` : "");
  sent = "";
  window.scrollTo(0, 0);
  byId("heading")?.focus({ preventScroll: true });
});

document.addEventListener("DOMContentLoaded", arrived);
