// The queue, and the picture that is being made: preview, attention, losses, time left.
import { ask, attempt, notice } from "./api.js";
import { drawing } from "./drawing.js";
import { order } from "./checks.js";
import { at, colour, curve, make } from "./dom.js";
import { loadResults } from "./results.js";
import { loadShelf } from "./shelf.js";
import { openOnCanvas } from "./opening.js";
import { trainingJob, trainingTold } from "./train.js";

const jobs = new Map();
let now = null; // the picture that is being made

export function startQueue() {
  at("make").addEventListener("click", () => attempt(submit));
  at("show-attention").addEventListener("change", showAttention);
}

async function submit() {
  const { decoded, overwrite } = drawing.settings;
  const job = await ask("/api/compose", { json: { ...order(), decoded, overwrite } });
  notice(`“${job.title}” is in the queue.`);
}

export const handlers = {
  job(id, job) {
    const known = jobs.get(id);
    jobs.set(id, job);
    if (job.kind === "train") trainingJob(job);
    if (known && !known.over && job.over) ended(job);
    render();
  },
  begun(id, { seed }) {
    now = { job: id, seed, losses: [], maps: [], started: null };
    at("preview").hidden = true;
    at("attention").hidden = true;
    curve(at("curve"), []);
    at("bar").value = 0;
    at("making-text").textContent = `${jobs.get(id)?.title ?? ""}, seed ${seed}: it begins`;
  },
  step(id, told) {
    if (now?.job !== id || now.seed !== told.seed) return;
    now.started ??= { time: performance.now(), step: told.step };
    if (told.losses.total !== undefined) now.losses.push(told.losses.total);
    at("bar").value = (told.step + 1) / told.steps;
    at("making-text").textContent = `${jobs.get(id)?.title ?? ""}, seed ${told.seed}: step ${told.step + 1} of ${told.steps}${left(told)}`;
    curve(at("curve"), now.losses);
    if (told.preview) {
      at("preview").src = told.preview;
      at("preview").alt = `Preview at step ${told.step + 1}`;
      at("preview").hidden = false;
    }
    if (told.maps.length) now.maps = told.maps;
    showAttention();
  },
  picture(id, picture) {
    loadResults();
    if (!picture.image || now?.job !== id) return;
    at("preview").src = picture.image;
    at("preview").alt = `Seed ${picture.seed}, finished`;
    at("preview").hidden = false;
    at("attention").hidden = true;
    at("bar").value = 1;
    at("making-text").textContent = `${jobs.get(id)?.title ?? ""}, seed ${picture.seed}: made${picture.seconds ? ` in ${picture.seconds.toFixed(1)} s` : " already"}`;
  },
  training: trainingTold,
};

export function fresh() {
  jobs.clear();
  now = null;
}

function left(told) {
  const since = told.step - now.started.step;
  if (since < 2) return "";
  const seconds = ((performance.now() - now.started.time) / 1000 / since) * (told.steps - told.step - 1);
  return `, ${Math.ceil(seconds)} s left`;
}

function ended(job) {
  if (job.kind !== "compose") loadShelf();
  if (job.state === "failed") notice(`${job.title}: ${job.error}`);
  if (now?.job === job.id && job.state === "stopped") at("making-text").textContent = `${job.title}: stopped`;
}

// Each region's attention in its colour, brighter where the concept looks.
async function showAttention() {
  const canvas = at("attention");
  canvas.hidden = !(at("show-attention").checked && now?.maps.length) || at("preview").hidden;
  if (canvas.hidden) return;
  const images = await Promise.all(now.maps.map(async (source) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    return image;
  }));
  const { naturalWidth: width, naturalHeight: height } = images[0];
  Object.assign(canvas, { width, height });
  const preview = at("preview").getBoundingClientRect(), place = canvas.parentElement.getBoundingClientRect();
  Object.assign(canvas.style, { left: `${preview.left - place.left}px`, top: `${preview.top - place.top}px`, width: `${preview.width}px`, height: `${preview.height}px` });
  const context = canvas.getContext("2d", { willReadFrequently: true }), mixed = context.createImageData(width, height);
  images.forEach((image, number) => {
    context.drawImage(image, 0, 0);
    const shades = context.getImageData(0, 0, width, height).data;
    const [red, green, blue] = [1, 3, 5].map((start) => parseInt(colour(number).slice(start, start + 2), 16));
    for (let at = 0; at < shades.length; at += 4) {
      const strength = shades[at];
      if (strength > mixed.data[at + 3]) mixed.data.set([red, green, blue, strength], at);
    }
  });
  context.putImageData(mixed, 0, 0);
}

function render() {
  const listed = [...jobs.values()].sort((a, b) => rank(a) - rank(b) || b.submitted - a.submitted).slice(0, 60);
  at("queue").replaceChildren(...listed.map(row));
  if (!listed.length) at("queue").replaceChildren(make("li", { className: "quiet", textContent: "Empty." }));
}

const rank = (job) => ({ running: 0, queued: 1 })[job.state] ?? 2;

function row(job) {
  const count = job.pictures.filter((one) => one.image).length;
  const name = make("span", { className: "name", textContent: `${job.title}: ${job.state}${count ? `, ${count} made` : ""}` });
  if (job.error && job.state !== "queued") name.append(make("span", { className: "why", textContent: job.error }));
  const last = job.pictures.findLast((one) => one.image);
  const parts = last ? [make("img", { src: last.image, alt: "", loading: "lazy" }), name] : [name];
  if (!job.over) parts.push(button("Stop", `Stop ${job.title}`, () => ask(`/api/jobs/${job.id}`, { method: "DELETE" })));
  else if (job.state === "lost" || job.state === "stopped") {
    parts.push(button("Again", `Again: ${job.title}`, () => ask(`/api/jobs/${job.id}/again`, { method: "POST" })));
  }
  if (job.layout) parts.push(button("Open", `Open ${job.title} on the canvas`, () => openOnCanvas(job.layout)));
  return make("li", { "data-state": job.state }, ...parts);
}

function button(text, label, act) {
  const made = make("button", { textContent: text, "aria-label": label });
  made.addEventListener("click", () => attempt(act));
  return made;
}
