"use strict";

// The page of the server. It uses the same interface as any other client and nothing from other hosts.

const EXAMPLES = {
  "sao-tiny": ["bright saw wave at A4", "techno loop, 140 bpm", "short kick drum on the left", "rain"],
  "": ["128 BPM tech house drum loop", "warm analog pad, slow", "rain on a tin roof", "glass breaking, close"],
};
const TASKS = {
  "Loop": ["loop", "bpm", "bars", "beats"],
  "With a recording": ["init_noise_level", "init_start", "extend", "keep"],
  "Away from something": ["cfg_scale", "negative_prompt"],
  "Sampling": ["steps", "sampler", "window_seconds", "full_window"],
  "Level and ends": ["normalize", "loudness", "fade_in", "fade_out", "trim_silence", "mono"],
};
const ELSEWHERE = new Set(["prompt", "model", "preview", "seconds", "seed", "regenerate", "numbers"]);
const $ = (id) => document.getElementById(id);
let formats = [];
let bits = {};
let properties = {};
let recording = null; // {file, buffer}
let audioContext = null;

// ---- The server ----

let key = sessionStorage.getItem("key") || "";

async function call(path, options = {}) {
  const used = key;
  const headers = { ...(options.headers || {}), ...(used ? { Authorization: `Bearer ${used}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    // Another call may have been given a key since.
    if (used === key) await askForKey();
    return call(path, options);
  }
  if (!answer.ok) {
    const about = await answer.json().catch(() => null);
    const wait = answer.headers.get("Retry-After");
    const message = about && about.error ? about.error.message : `the server answered ${answer.status}`;
    throw new Error(answer.status === 429 && wait ? `The queue is full. Try again in ${wait} seconds.` : message);
  }
  return answer;
}

let asking = null; // Several calls may be refused at once, and ask once.

function askForKey() {
  asking ??= new Promise((resolve, reject) => {
    const dialog = $("key-dialog");
    $("key-problem").textContent = key ? "That is not the key of this server." : "";
    $("key").value = dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      asking = null;
      if (dialog.returnValue !== "use") return reject(new Error("This server asks for a key. Reload the page to give it."));
      key = $("key").value;
      sessionStorage.setItem("key", key);
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

// Server-sent events over fetch, because an EventSource cannot send a key.
async function* events(path, signal) {
  const answer = await call(path, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const fields = Object.fromEntries(part.split("\n").filter((line) => !line.startsWith(":")).map((line) => {
        const colon = line.indexOf(":");
        return [line.slice(0, colon), line.slice(colon + 1).trim()];
      }));
      if (fields.data) yield { event: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

// ---- The form ----

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on")) made.addEventListener(attribute.slice(2), value);
    else if (value === true) made.setAttribute(attribute, "");
    else if (value !== false && value !== null) made.setAttribute(attribute, value);
  }
  made.append(...children);
  return made;
}

const words = (name) => name.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase());
const typeOf = (schema) => [schema.type].flat().find((type) => type !== "null");

function field(name, schema) {
  const id = `option-${name}`;
  const type = typeOf(schema);
  const unit = schema["x-unit"] ? ` (${schema["x-unit"]})` : "";
  // Options are named as on the command line.
  const described = schema.description.replace(/--([a-z-]+)/g, (_, option) => option.replaceAll("-", " "));
  const hint = element("small", { id: `${id}-hint` }, described + (schema["x-default"] ? ` Default: ${schema["x-default"]}.` : ""));
  const common = { id, name, "aria-describedby": `${id}-hint` };
  if (type === "boolean") {
    return element("div", { class: "field" }, element("label", { class: "check" }, element("input", { ...common, type: "checkbox" }), words(name)), hint);
  }
  let input;
  if (schema.enum) {
    input = element("select", common, element("option", { value: "" }, "as the model says"));
    for (const choice of schema.enum.filter((one) => one !== null)) input.append(element("option", { value: choice }, choice));
  } else if (type === "number" || type === "integer") {
    input = element("input", { ...common, type: "number", step: type === "integer" ? 1 : "any", min: schema.minimum ?? schema.exclusiveMinimum ?? null, max: schema.maximum ?? null });
  } else {
    const placeholder = type === "array" ? "0:3, 8:11" : null;
    input = element("input", { ...common, type: "text", placeholder });
  }
  return element("div", { class: "field" }, element("label", {}, words(name) + unit, input), hint);
}

function buildOptions() {
  const box = $("options");
  box.replaceChildren();
  const placed = new Set(Object.values(TASKS).flat());
  const others = Object.keys(properties).filter((name) => !placed.has(name) && !ELSEWHERE.has(name));
  box.append(element("details", { id: "numbers" }));
  for (const [task, names] of Object.entries({ ...TASKS, "More": others })) {
    const known = names.filter((name) => properties[name]);
    if (!known.length) continue;
    box.append(element("details", {}, element("summary", {}, task), ...known.map((name) => field(name, properties[name]))));
  }
}

// A field for each number that the chosen model knows; what is left empty is left to the model.
function buildNumbers(model) {
  const fields = model.numbers.map(({ id, minimum, maximum, default: usual }) => field(`number-${id}`, {
    type: "number", minimum, maximum, description: `${minimum} to ${maximum}.`, "x-default": usual === null ? "the length" : usual,
  }));
  $("numbers").replaceChildren(element("summary", {}, "Numbers of the model"), ...fields);
}

function numbers() {
  const filled = [...$("numbers").querySelectorAll("input")].filter((input) => input.value !== "");
  return Object.fromEntries(filled.map((input) => [input.name.replace("number-", ""), Number(input.value)]));
}

function read(name, schema) {
  const input = $(`option-${name}`);
  if (!input) return undefined;
  const type = typeOf(schema);
  if (type === "boolean") return input.checked || undefined;
  const text = input.value.trim();
  if (!text) return undefined;
  if (type === "number" || type === "integer") return Number(text);
  if (type === "array") return text.split(/[ ,]+/).filter(Boolean).map((region) => region.split(":").map(Number));
  return text;
}

function asked() {
  const body = { prompt: $("prompt").value, model: $("model").value };
  if ($("seconds").value) body.seconds = Number($("seconds").value);
  for (const [name, schema] of Object.entries(properties)) {
    if (ELSEWHERE.has(name)) continue;
    const value = read(name, schema);
    if (value !== undefined) body[name] = value;
  }
  if (Object.keys(numbers()).length) body.numbers = numbers();
  if (recording && $("from").value !== "" && $("to").value !== "") body.regenerate = [[Number($("from").value), Number($("to").value)]];
  return body;
}

function fill(body) {
  $("prompt").value = body.prompt;
  if (body.model) $("model").value = body.model;
  $("seconds").value = body.seconds ?? "";
  $("seed").value = body.seed ?? "";
  $("prompt").focus();
}

async function submit(event) {
  event.preventDefault();
  $("problem").textContent = "";
  const body = asked();
  const first = $("seed").value === "" ? Math.floor(Math.random() * 2 ** 32) : Number($("seed").value);
  const count = Math.max(1, Number($("variations").value) || 1);
  $("make").disabled = true;
  try {
    for (let i = 0; i < count; i++) await ask({ ...body, seed: (first + i) % 2 ** 32 });
  } catch (error) {
    $("problem").textContent = error.message;
  } finally {
    $("make").disabled = false;
  }
}

async function ask(body) {
  let options = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  if (recording) {
    const form = new FormData();
    form.append("request", JSON.stringify(body));
    form.append("audio", recording.file, "recording");
    options = { method: "POST", body: form };
  }
  const job = await (await call("/v1/jobs", options)).json();
  remember(job.id, body);
  follow(show(job, body), job.id);
}

// ---- Clips ----

function remember(id, body) {
  const all = JSON.parse(sessionStorage.getItem("clips") || "[]");
  all.push({ id, body });
  sessionStorage.setItem("clips", JSON.stringify(all.slice(-50)));
}

function show(job, body) {
  $("none").hidden = true;
  const card = element("li", { "data-id": job.id });
  const state = element("p", { class: "quiet", role: "status" }, "waiting");
  const bar = element("progress", { max: 1, value: 0, "aria-label": `Progress of ${body.prompt}` });
  const cancel = element("button", { type: "button", class: "small", onclick: () => call(`/v1/jobs/${job.id}`, { method: "DELETE" }).catch(() => {}) }, "Cancel");
  const rest = element("div", {});
  card.append(element("h3", {}, body.prompt || "(no words)"), element("p", { class: "quiet" }, `seed ${job.seed}, ${job.model}`), state, bar, cancel, rest);
  $("clips").prepend(card);
  return { card, state, bar, cancel, rest, body, job };
}

function tell(view, about) {
  const { state, bar } = view;
  if (about.state === "queued") state.textContent = about.position > 1 ? `waiting, number ${about.position}` : "next";
  else if (about.state === "running") {
    bar.value = about.fraction;
    state.textContent = about.steps && about.step < about.steps ? `step ${about.step} of ${about.steps}` : about.step ? "decoding" : "reading the prompt";
  } else state.textContent = about.state;
}

async function follow(view, id) {
  try {
    for await (const { event, data } of events(`/v1/jobs/${id}/events`)) {
      if (event === "preview") continue;
      tell(view, data);
      if (event === "done") return await finished(view, data);
      if (event === "failed") view.rest.append(element("p", { class: "problem" }, data.error.message));
    }
  } catch (error) {
    view.rest.append(element("p", { class: "problem" }, error.message));
  }
  view.bar.remove();
  view.cancel.remove();
}

async function finished(view, about) {
  const { card, state, bar, cancel, rest, body } = view;
  bar.remove();
  cancel.remove();
  const total = Object.values(about.timings).reduce((sum, time) => sum + time, 0);
  state.textContent = `${about.seconds.toFixed(2)} s, made in ${total.toFixed(1)} s`;
  const data = await (await call(`${about.audio}?format=wav`)).blob();
  const audio = element("audio", { src: URL.createObjectURL(data), preload: "auto" });
  const buffer = await decode(await data.arrayBuffer());
  const wave = element("canvas", { class: "wave", role: "slider", tabindex: 0, "aria-label": "Position in seconds", "aria-valuemin": 0, "aria-valuemax": about.seconds.toFixed(2), "aria-valuenow": 0 });
  const play = element("button", { type: "button", "aria-label": `Play ${body.prompt}` }, "Play");
  const loop = element("input", { type: "checkbox" });
  loop.checked = audio.loop = Boolean(body.bars || body.loop);
  loop.addEventListener("change", () => { audio.loop = loop.checked; });
  play.addEventListener("click", () => (audio.paused ? audio.play() : audio.pause()));
  const draw = () => {
    drawWave(wave, buffer, { position: audio.currentTime });
    wave.setAttribute("aria-valuenow", audio.currentTime.toFixed(2));
    if (!audio.paused) requestAnimationFrame(draw);
  };
  for (const name of ["play", "pause", "seeked", "ended"]) {
    audio.addEventListener(name, () => {
      play.textContent = audio.paused ? "Play" : "Pause";
      play.setAttribute("aria-label", `${play.textContent} ${body.prompt}`);
      draw();
    });
  }
  const seek = (seconds) => { audio.currentTime = Math.min(Math.max(0, seconds), about.seconds); };
  wave.addEventListener("click", (event) => seek((event.offsetX / wave.clientWidth) * about.seconds));
  wave.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.1, ArrowRight: 0.1, PageUp: 1, PageDown: -1 }[event.key];
    if (step) seek(audio.currentTime + step);
    else if (event.key === "Home") seek(0);
    else if (event.key === "End") seek(about.seconds);
    else if (event.key === " ") play.click();
    else return;
    event.preventDefault();
  });
  const downloads = element("p", { class: "quiet" }, "Download ");
  for (const format of formats) {
    // The first is what a file has where nothing is said.
    for (const [index, depth] of (bits[format] || [0]).entries()) {
      const name = index ? `${format}, ${depth} bits` : format;
      downloads.append(element("button", { type: "button", class: "small", onclick: () => download(about, format, depth) }, name), " ");
    }
  }
  const again = element("button", { type: "button", class: "small", onclick: () => fill({ ...body, seed: about.seed }) }, "Same again");
  const start = element("button", { type: "button", class: "small", onclick: () => take(new File([data], "clip.wav", { type: "audio/wav" })) }, "Start from it");
  rest.replaceChildren(wave, audio, element("div", { class: "row middle" }, play, element("label", { class: "check" }, loop, "Loop"), again, start), downloads);
  new ResizeObserver(draw).observe(wave);
  card.dataset.done = "yes";
}

async function download(about, format, depth) {
  try {
    const data = await (await call(`${about.audio}?format=${format}${depth ? `&bits=${depth}` : ""}`)).blob();
    const link = element("a", { href: URL.createObjectURL(data), download: `sao-${about.seed}.${format}` });
    link.click();
    URL.revokeObjectURL(link.href);
  } catch (error) {
    $("problem").textContent = error.message;
  }
}

// ---- Sound and pictures of it ----

function decode(data) {
  audioContext ??= new AudioContext();
  return audioContext.decodeAudioData(data);
}

function drawWave(canvas, buffer, { position = null, chosen = null } = {}) {
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * scale, canvas.clientHeight * scale];
  if (!width) return;
  canvas.width = width;
  canvas.height = height;
  const style = getComputedStyle(document.documentElement);
  const pen = canvas.getContext("2d");
  if (chosen) {
    pen.fillStyle = style.getPropertyValue("--chosen");
    pen.globalAlpha = 0.35;
    pen.fillRect((chosen[0] / buffer.duration) * width, 0, ((chosen[1] - chosen[0]) / buffer.duration) * width, height);
    pen.globalAlpha = 1;
  }
  pen.fillStyle = style.getPropertyValue("--wave");
  const rows = buffer.numberOfChannels;
  const tall = height / rows;
  for (let row = 0; row < rows; row++) {
    const samples = buffer.getChannelData(row);
    const each = samples.length / width;
    for (let x = 0; x < width; x++) {
      let [low, high] = [0, 0];
      const end = Math.min(samples.length, Math.ceil((x + 1) * each));
      const stride = Math.max(1, Math.floor(each / 64));
      for (let i = Math.floor(x * each); i < end; i += stride) {
        if (samples[i] < low) low = samples[i];
        if (samples[i] > high) high = samples[i];
      }
      const middle = (row + 0.5) * tall;
      pen.fillRect(x, middle - (high * tall) / 2, 1, Math.max(1, ((high - low) * tall) / 2));
    }
  }
  if (position !== null) {
    pen.fillStyle = style.getPropertyValue("--chosen");
    pen.fillRect((position / buffer.duration) * width, 0, 2 * scale, height);
  }
}

async function take(file) {
  $("problem").textContent = "";
  try {
    recording = { file, buffer: await decode(await file.arrayBuffer()) };
  } catch {
    $("problem").textContent = `${file.name} cannot be read as audio.`;
    return;
  }
  $("recorded").hidden = $("forget").hidden = false;
  $("recorded-audio").src = URL.createObjectURL(file);
  $("from").value = $("to").value = "";
  drawRecording();
  $("recording").scrollIntoView({ block: "nearest" });
}

function drawRecording() {
  if (!recording) return;
  const [from, to] = [$("from").value, $("to").value];
  drawWave($("recorded-wave"), recording.buffer, { chosen: from !== "" && to !== "" ? [Number(from), Number(to)] : null });
}

function select() {
  const wave = $("recorded-wave");
  let began = null;
  const at = (event) => Math.min(Math.max(0, event.offsetX / wave.clientWidth), 1) * recording.buffer.duration;
  wave.addEventListener("pointerdown", (event) => {
    began = at(event);
    wave.setPointerCapture(event.pointerId);
  });
  wave.addEventListener("pointermove", (event) => {
    if (began === null) return;
    const edges = [began, at(event)].sort((a, b) => a - b);
    $("from").value = edges[0].toFixed(2);
    $("to").value = edges[1].toFixed(2);
    drawRecording();
  });
  wave.addEventListener("pointerup", () => { began = null; });
  for (const id of ["from", "to"]) $(id).addEventListener("input", drawRecording);
  new ResizeObserver(drawRecording).observe(wave);
}

// ---- Start ----

async function begin() {
  const models = (await (await call("/v1/models")).json()).data;
  const options = await (await call("/v1/options")).json();
  formats = options.formats;
  bits = options.bits;
  properties = options.schema.properties;
  for (const model of models) $("model").append(element("option", { value: model.id }, model.id));
  const chosen = () => models.find((model) => model.id === $("model").value);
  const describe = () => {
    const model = chosen();
    const tiny = model.name === "sao-tiny";
    buildNumbers(model);
    $("about").textContent = tiny
      ? "You hear sao-tiny, a small demonstrator: a few dozen kinds of sound, no music."
      : `You hear ${model.name}, clips of up to ${model.window_seconds.toFixed(1)} s.`;
    $("examples").replaceChildren(...(EXAMPLES[tiny ? "sao-tiny" : ""]).map((text) =>
      element("button", { type: "button", class: "small", onclick: () => { $("prompt").value = text; $("prompt").focus(); } }, text)));
  };
  $("model").addEventListener("change", describe);
  buildOptions();
  describe();
  select();
  for (const { id, body } of JSON.parse(sessionStorage.getItem("clips") || "[]")) {
    const answer = await call(`/v1/jobs/${id}`).catch(() => null);
    if (answer) follow(show(await answer.json(), body), id);
  }
}

$("form").addEventListener("submit", submit);
$("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
$("file").addEventListener("change", () => { if ($("file").files[0]) take($("file").files[0]); });
$("forget").addEventListener("click", () => {
  recording = null;
  $("file").value = "";
  $("recorded").hidden = $("forget").hidden = true;
});
const zone = $("recording");
for (const name of ["dragover", "dragleave", "drop"]) {
  zone.addEventListener(name, (event) => {
    event.preventDefault();
    zone.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
begin().catch((error) => { $("problem").textContent = error.message; });
