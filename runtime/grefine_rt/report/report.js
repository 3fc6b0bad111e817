"use strict";

const at = (id) => document.getElementById(id);
const frame = at("frame");
const map = at("map");

function follow(id, event, act) {
  const control = at(id);
  if (!control) return;
  control.addEventListener(event, () => act(control));
  act(control);
}

follow("split", "input", (control) => frame.style.setProperty("--split", `${control.value}%`));
follow("opacity", "input", (control) => (map.style.opacity = control.value / 100));
follow("show-mask", "change", (control) => (at("mask").hidden = !control.checked));

const thumbs = [...document.querySelectorAll(".thumb")];
const none = thumbs[0];

// A second press on the map that is shown takes it away again.
for (const thumb of thumbs) {
  thumb.addEventListener("click", () => {
    const chosen = thumb.getAttribute("aria-pressed") === "true" ? none : thumb;
    for (const other of thumbs) other.setAttribute("aria-pressed", String(other === chosen));
    map.hidden = chosen === none;
    if (map.hidden) return;
    const image = chosen.querySelector("img");
    map.src = image.src;
    map.alt = image.alt;
    at("low").textContent = chosen.dataset.low;
    at("high").textContent = chosen.dataset.high;
    if (frame.getBoundingClientRect().bottom < 80) frame.scrollIntoView({ block: "center" });
  });
}
