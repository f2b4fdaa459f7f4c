/** The page: words in, clips out. The work is done in a worker. */
import type { Answer, Wish } from "./messages.js";

const EXAMPLES = ["short kick drum", "bright saw wave at A4", "techno loop, 140 bpm", "rain"];
const MEGABYTE = 1e6;

function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`);
  return found;
}

const form = element("form", HTMLFormElement);
const prompt = element("prompt", HTMLTextAreaElement);
const seconds = element("seconds", HTMLInputElement);
const steps = element("steps", HTMLInputElement);
const seed = element("seed", HTMLInputElement);
const loop = element("loop", HTMLInputElement);
const [makeButton, stopButton] = [element("make", HTMLButtonElement), element("stop", HTMLButtonElement)];
const progress = element("progress", HTMLProgressElement);
const [status, problem] = [element("status", HTMLElement), element("problem", HTMLElement)];
const clips = element("clips", HTMLOListElement);

// A worker from a blob is under this page's Content-Security-Policy, whatever headers the host sends with its script.
const address = new URL("worker.js", import.meta.url).href;
const start = new Blob([`import ${JSON.stringify(address)};`], { type: "text/javascript" });
const worker = new Worker(URL.createObjectURL(start), { type: "module" });
// What is said before the worker's module has run would be lost.
const waiting: Wish[] = [];
let awake = false;

function tell(wish: Wish): void {
  if (awake) worker.postMessage(wish);
  else waiting.push(wish);
}

function working(on: boolean): void {
  makeButton.disabled = on;
  stopButton.hidden = !on;
  progress.hidden = !on;
  if (on) problem.textContent = "";
}

function optional(field: HTMLInputElement): number | undefined {
  return field.value === "" ? undefined : Number(field.value);
}

function make(): void {
  working(true);
  status.textContent = "Starting";
  progress.removeAttribute("value");
  const given = Object.entries({ seconds: optional(seconds), steps: optional(steps), seed: optional(seed) });
  const options = Object.fromEntries(given.filter(([, value]) => value !== undefined));
  asked = { words: prompt.value, loop: loop.checked };
  tell({ type: "make", prompt: asked.words, options: { ...options, loop: asked.loop } });
}

function text(kind: string, content: string, className = ""): HTMLElement {
  const made = document.createElement(kind);
  made.textContent = content;
  made.className = className;
  return made;
}

function show(clip: Extract<Answer, { type: "clip" }>): void {
  const { words } = asked;
  const address = URL.createObjectURL(new Blob([clip.wav], { type: "audio/wav" }));
  const item = document.createElement("li");
  const audio = document.createElement("audio");
  audio.controls = true;
  audio.loop = asked.loop;
  audio.src = address;
  audio.setAttribute("aria-label", `${words}, seed ${clip.seed}`);
  const link = document.createElement("a");
  link.href = address;
  link.download = `sao-tiny-${clip.seed}.wav`;
  link.textContent = "Download";
  const [length, took] = [clip.seconds.toFixed(2), clip.took.toFixed(1)];
  const facts = `${length} s, made in ${took} s with ${clip.threads} ${clip.threads === 1 ? "thread" : "threads"}, seed ${clip.seed}`;
  const cut = clip.cut ? [text("p", "The description is longer than the model reads; its end was left out.")] : [];
  item.append(text("h3", words), audio, ...cut, text("p", facts, "quiet"), link);
  item.dataset["took"] = String(clip.took);
  clips.prepend(item);
  element("none", HTMLElement).hidden = true;
  const [loadSeconds, size] = [clip.loaded.seconds.toFixed(1), (clip.loaded.bytes / MEGABYTE).toFixed(1)];
  element("size", HTMLElement).textContent = `The runtime and the model, ${size} MB, were loaded in ${loadSeconds} s.`;
}

/** What the clip in the making was asked for. */
let asked = { words: "", loop: false };

worker.addEventListener("message", ({ data }: MessageEvent<Answer>) => {
  switch (data.type) {
    case "awake":
      awake = true;
      waiting.splice(0).forEach(tell);
      break;
    case "progress":
      progress.value = data.fraction;
      if (status.textContent !== data.doing) status.textContent = data.doing;
      break;
    case "clip":
      working(false);
      status.textContent = "Done";
      show(data);
      break;
    case "stopped":
      working(false);
      status.textContent = "Stopped";
      break;
    case "failed":
      working(false);
      status.textContent = "";
      problem.textContent = data.message;
      break;
  }
});
worker.addEventListener("error", () => {
  working(false);
  status.textContent = "";
  problem.textContent = "The worker cannot be started; reload the page.";
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (makeButton.disabled) return;
  make();
});
stopButton.addEventListener("click", () => tell({ type: "stop" }));

for (const example of EXAMPLES) {
  const button = text("button", example, "small") as HTMLButtonElement;
  button.type = "button";
  button.addEventListener("click", () => (prompt.value = example));
  element("examples", HTMLElement).append(button);
}

element("size", HTMLElement).textContent = `The first clip loads ${(DOWNLOAD_BYTES / MEGABYTE).toFixed(1)} MB.`;
element("machine", HTMLElement).textContent = self.crossOriginIsolated
  ? `This browser works with up to ${Math.min(4, navigator.hardwareConcurrency)} threads here.`
  : "One thread is used: the host of this page does not isolate it from others, which threads need.";

declare const DOWNLOAD_BYTES: number;
