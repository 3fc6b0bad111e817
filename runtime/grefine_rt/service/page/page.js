// The page of the service: one picture at a time. Whatever a user or a file says is set as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const COLOURS = { mask: "#00d6e0", protect: "#ff9d00" };
let file = null;
let shown = [];        // object URLs of the answer, revoked with the next one
let maps = {};
let running = null;    // AbortController of the call
let ticking = 0;
let reading = 0;       // the newest picture whose prompt is asked for

const say = (text, bad = false) => {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
};

async function ask(path, form, signal) {
  const token = $("token").value.trim();
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { method: "POST", body: form, headers, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error("The service does not answer.");
  }
  let value;
  try {
    value = await response.json();
  } catch {
    throw new Error(`The service answered ${response.status}.`);
  }
  if (response.ok) return value;
  if (value.error.reason === "domain") $("more").open = true;  // the switch that refines it all the same
  const wait = response.headers.get("Retry-After");
  throw new Error(value.error.message + (wait ? ` (in ${wait} s)` : ""));
}

const blobURL = (base64, type) => {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  shown.push(url);
  return url;
};

function forget() {
  shown.forEach((url) => URL.revokeObjectURL(url));
  shown = [];
  maps = {};
  $("after").hidden = $("download").hidden = $("found").hidden = true;
  show("compare");
}

// A picture comes in

async function take(chosen) {
  if (!chosen || running) return;
  file = chosen;
  forget();
  $("drop").querySelector("span").textContent = file.name;
  $("refine").disabled = $("assess").disabled = false;
  const before = $("before");
  if (before.src) URL.revokeObjectURL(before.src);
  before.src = URL.createObjectURL(file);
  $("view").hidden = false;
  say("");
  $("source").textContent = "";
  const number = ++reading;
  const former = { prompt: $("prompt").value, negative: $("negative").value };
  const form = new FormData();
  form.append("image", file);
  try {
    const found = await ask("/v1/prompt", form);
    if (number !== reading) return;
    for (const name of ["prompt", "negative"]) {  // unless someone has typed meanwhile
      if ($(name).value === former[name]) $(name).value = found[name] ?? "";
    }
    $("source").textContent = found.prompt_source
      ? `Read from ${found.prompt_source}`
      : "The picture's file holds no prompt: say what it should show.";
  } catch (error) {
    if (number === reading) say(error.message, true);
  }
}

$("before").addEventListener("load", () => {
  const { naturalWidth, naturalHeight } = $("before");
  $("paint").width = naturalWidth;
  $("paint").height = naturalHeight;
});
$("before").addEventListener("error", () => {
  if (file) say("The browser cannot show this picture; the service may still read it.", true);
});
$("file").addEventListener("change", (event) => take(event.target.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
});

// Drawing: both masks are colours of one canvas of the picture's size

let last = null;
const brush = () => document.querySelector("input[name=brush]:checked").value;

const place = (event) => {
  // The canvas is shown with object-fit: contain.
  const { width, height } = $("paint");
  const box = $("paint").getBoundingClientRect();
  const scale = Math.min(box.width / width, box.height / height);
  return [
    (event.clientX - box.left - (box.width - width * scale) / 2) / scale,
    (event.clientY - box.top - (box.height - height * scale) / 2) / scale,
  ];
};

function stroke(event) {
  const canvas = $("paint");
  const context = canvas.getContext("2d");
  const to = place(event);
  context.globalCompositeOperation = brush() === "erase" ? "destination-out" : "source-over";
  context.strokeStyle = COLOURS[brush()] ?? "#000";
  context.lineWidth = Math.max(1, ($("width").value / 100) * Math.max(canvas.width, canvas.height));
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  context.moveTo(...(last ?? to));
  context.lineTo(...to);
  context.stroke();
  last = to;
}

$("paint").addEventListener("pointerdown", (event) => {
  if (!brush()) return;
  $("paint").setPointerCapture(event.pointerId);
  last = null;
  stroke(event);
});
$("paint").addEventListener("pointermove", (event) => { if (last) stroke(event); });
for (const kind of ["pointerup", "pointercancel"]) $("paint").addEventListener(kind, () => { last = null; });
for (const input of document.querySelectorAll("input[name=brush]")) {
  input.addEventListener("change", () => {
    $("stage").classList.toggle("drawing", brush() !== "");
    if (brush()) show("compare");
  });
}
$("clear").addEventListener("click", () => {
  $("paint").getContext("2d").clearRect(0, 0, $("paint").width, $("paint").height);
});

// A mask as a white-on-black PNG; null where nothing is drawn. The nearer colour counts at soft edges.
function drawn(which) {
  const { width, height } = $("paint");
  if (!width || !height) return null;
  const image = $("paint").getContext("2d").getImageData(0, 0, width, height);
  const pixels = image.data;
  let any = false;
  for (let i = 0; i < pixels.length; i += 4) {
    const kind = pixels[i + 3] < 128 ? "" : pixels[i] < 128 ? "mask" : "protect";
    const value = kind === which ? 255 : 0;
    any ||= value > 0;
    pixels[i] = pixels[i + 1] = pixels[i + 2] = value;
    pixels[i + 3] = 255;
  }
  if (!any) return null;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

// Calls

async function call(path) {
  if (!file || running) return;
  forget();
  running = new AbortController();
  busy(true);
  try {
    const form = new FormData();
    form.append("image", file);
    form.append("maps", "true");
    if ($("prompt").value.trim()) form.append("prompt", $("prompt").value);
    if (path === "/v1/refine") {
      form.append("negative", $("negative").value);
      form.append("seed", $("seed").value.trim() || "0");
      if ($("outside").checked) form.append("outside", "refine");
      for (const which of ["mask", "protect"]) {
        const blob = await drawn(which);
        if (blob) form.append(which, blob, `${which}.png`);
      }
    }
    present(await ask(path, form, running.signal));
    say("");
  } catch (error) {
    say(error.name === "AbortError" ? "Stopped." : error.message, error.name !== "AbortError");
  } finally {
    running = null;
    busy(false);
  }
}

function busy(on) {
  for (const id of ["refine", "assess", "file"]) $(id).disabled = on;
  $("stop").hidden = !on;
  clearInterval(ticking);
  if (!on) return;
  const start = Date.now();
  say("Working ...");
  ticking = setInterval(() => say(`Working, ${Math.round((Date.now() - start) / 1000)} s`), 1000);
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); call("/v1/refine"); });
$("assess").addEventListener("click", () => call("/v1/assess"));
$("stop").addEventListener("click", () => running?.abort());

// What came back

function present(answer) {
  for (const [name, data] of Object.entries(answer.maps ?? {})) maps[name] = blobURL(data, "image/png");
  if (answer.image) {
    const url = blobURL(answer.image.data, answer.image.media_type);
    $("after").src = url;
    $("after").hidden = false;
    const suffix = answer.image.media_type.split("/")[1].replace("jpeg", "jpg");
    $("download").href = url;
    $("download").download = `${file.name.replace(/\.[^.]*$/, "")}.refined.${suffix}`;
    $("download").hidden = false;
  }
  if (answer.prompt_source) $("source").textContent = `Read from ${answer.prompt_source}`;
  scores(answer.before, answer.after);
  list("phrases", answer.phrases.map((phrase, i) => [
    finding(phrase, answer.phrases_after?.[i]),
    (answer.phrases_after?.[i] ?? phrase).defect,
  ]));
  list("reasons", (answer.reasons ?? []).map((text) => [text]));
  const notes = new Set([answer.domain?.sentence, ...answer.notes]);  // refine says the sentence as a note, too
  list("notes", [...notes].filter(Boolean).map((text) => [text]));
  $("found").hidden = false;
  show(answer.image ? "compare" : "perceptual");
}

const WORDS = { noun: "missing", adjective: "looks different" };
const finding = (phrase, after) => {
  const now = WORDS[phrase.defect] ?? "fine";
  const then = after ? WORDS[after.defect] ?? "fine" : now;
  return `${phrase.text}: ${now}${then === now ? "" : `, then ${then}`}`;
};

function scores(before, after) {
  const body = $("scores").tBodies[0];
  const rows = [["Perceptual quality", "perceptual"], ["Prompt alignment", "alignment"]].map(
    ([words, name]) => [words, before[name], after?.[name]]);
  for (const [name, value] of Object.entries(before.ip_iqa ?? {})) {
    rows.push([`IP-IQA ${name}`, value, after?.ip_iqa?.[name]]);
  }
  body.replaceChildren(...rows.map(([words, first, then]) => {
    const row = document.createElement("tr");
    const cells = [words, first.toFixed(3)];
    if (then !== undefined) cells.push("→", then.toFixed(3));
    for (const text of cells) row.insertCell().textContent = text;
    if (then !== undefined) {
      const change = row.insertCell();
      change.textContent = `${then < first ? "−" : "+"}${Math.abs(then - first).toFixed(3)}`;
      if (Math.abs(then - first) >= 0.0005) change.className = then < first ? "bad" : "good";
    }
    return row;
  }));
}

function list(id, rows) {
  $(`${id}-box`).hidden = !rows.length;
  $(id).replaceChildren(...rows.map(([text, bad]) => {
    const item = document.createElement("li");
    item.textContent = text;
    if (bad) item.className = "bad";
    return item;
  }));
}

function show(what) {
  for (const button of document.querySelectorAll("[data-show]")) {
    const name = button.dataset.show;
    button.setAttribute("aria-pressed", String(name === what));
    button.disabled = name !== "compare" && !maps[name];
  }
  const compare = what === "compare" && Boolean($("after").getAttribute("src")) && !$("after").hidden;
  $("map").hidden = what === "compare";
  if (maps[what]) {
    $("map").src = maps[what];
    $("map").alt = `Map: ${what}`;
  }
  $("slide").hidden = $("line").hidden = !compare;
  slide();
}

function slide() {
  const share = $("slide").value / 1000;
  // Over the picture itself, which object-fit may make narrower than its box.
  const box = $("before").getBoundingClientRect();
  const { naturalWidth: width, naturalHeight: height } = $("before");
  const wide = width && height ? Math.min(box.width, (box.height * width) / height) : box.width;
  const at = (box.width - wide) / 2 + share * wide;
  $("line").style.left = `${at}px`;
  $("after").style.clipPath = `inset(0 0 0 ${at}px)`;
}

for (const button of document.querySelectorAll("[data-show]")) {
  button.addEventListener("click", () => show(button.dataset.show));
}
$("slide").addEventListener("input", slide);
addEventListener("resize", slide);
