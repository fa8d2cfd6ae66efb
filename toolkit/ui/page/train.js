// Training from files: what is sent, what is refused, and how it goes.
import { ask, attempt, notice } from "./api.js";
import { at, curve, make } from "./dom.js";

const IMAGE = /\.(png|jpe?g|webp|bmp|tiff?|gif)$/i, CAPTION = /\.(txt|caption)$/i;
const MOST = 2000, SHOWN = 50;
let running = null, losses = [], dropped = [];

export function startTrain() {
  at("train").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(send);
  });
  for (const id of ["train-files", "train-folder"]) at(id).addEventListener("change", inventory);
  at("training-stop").addEventListener("click", () => attempt(() => ask(`/api/jobs/${running}`, { method: "DELETE" })));
}

// Each file with the name that it is sent by, and why it is not, where it is not: of a folder only
// what lies in it, and in masks/.
function chosenFiles() {
  const picked = [...at("train-files").files, ...at("train-folder").files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  const files = [...picked, ...dropped].map(({ file, path }) => {
    const parts = path.split("/"), inside = parts.slice(parts.length > 1 ? 1 : 0);
    return { file, name: inside.join("/"), unused: unfit(inside) };
  });
  const images = new Set(files.filter((one) => !one.unused && IMAGE.test(one.name) && !one.name.startsWith("masks/")).map((one) => stem(one.name)));
  for (const one of files) {
    const [folder, last] = one.name.startsWith("masks/") ? ["masks", one.name.slice(6)] : ["", one.name];
    if (!one.unused && (folder || !IMAGE.test(last)) && !images.has(stem(last))) one.unused = `there is no image ${stem(last)}`;
  }
  return files;
}

const stem = (name) => name.replace(/\.[^.]*$/, "");

function unfit(inside) {
  const last = inside.at(-1);
  if (last.startsWith(".")) return "a hidden file";
  if (!IMAGE.test(last) && !CAPTION.test(last)) return "neither an image nor a caption";
  if (inside.length > 1 && (inside.length > 2 || inside[0] !== "masks")) return "in a folder of its own, and only masks/ is taken along";
  return "";
}

function inventory() {
  const files = chosenFiles(), taken = files.filter((one) => !one.unused), unused = files.filter((one) => one.unused);
  const captions = taken.filter((one) => CAPTION.test(one.name)).length;
  const masks = taken.filter((one) => one.name.startsWith("masks/")).length;
  at("inventory").textContent = `${taken.length - captions - masks} images, ${captions} captions, ${masks} masks; ${unused.length} files are not used`;
  at("refused").replaceChildren();
  at("unused").replaceChildren(...unused.slice(0, SHOWN).map((one) => make("li", { textContent: `${one.name}: ${one.unused}` })));
  if (unused.length > SHOWN) at("unused").append(make("li", { textContent: `and ${unused.length - SHOWN} more` }));
}

// What was dropped on the view takes the place of what was dropped before.
export async function takeDropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const found = [];
  for (const entry of entries) await walk(entry, found);
  dropped = found;
  inventory();
}

async function walk(entry, found) {
  if (found.length >= MOST) throw new Error(`More than ${MOST} files: a concept needs 6 to 30 images.`);
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    found.push({ file, path: entry.fullPath.slice(1) });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // a part of them at a time
    if (!some.length) return;
    for (const inner of some) await walk(inner, found);
  }
}

async function send() {
  const name = at("train-name").value, files = chosenFiles().filter((one) => !one.unused);
  let sent = 0;
  at("refused").replaceChildren();
  for (const { file, name: path } of files) {
    at("inventory").textContent = `sending ${++sent} of ${files.length}`;
    try {
      await ask(`/api/datasets/${encodeURIComponent(name)}/${path.split("/").map(encodeURIComponent).join("/")}`, { method: "PUT", body: file });
    } catch (error) {
      at("refused").append(make("li", { textContent: error.message }));
    }
  }
  inventoryDone(files.length);
  const steps = at("train-steps").value === "" ? null : Number(at("train-steps").value);
  await ask("/api/train", { json: { name, class_word: at("train-class").value, steps } });
  notice(`The training of ${name} is in the queue.`);
}

function inventoryDone(count) {
  const refused = at("refused").children.length;
  at("inventory").textContent = `${count - refused} files were taken${refused ? `, ${refused} refused` : ""}`;
}

export function trainingJob(job) {
  if (job.state === "running" && running !== job.id) {
    running = job.id;
    losses = [];
    at("sample-grids").replaceChildren();
  }
  if (job.over && running !== job.id) return;
  at("training-stop").disabled = job.over;
  at("training-text").textContent = `${job.title}: ${job.state}${job.error ? `: ${job.error}` : ""}`;
  if (job.over) running = null;
}

export function trainingTold(id, told) {
  if (id !== running) return;
  at("training-text").textContent = `step ${told.step} of ${told.steps}, loss ${told.loss.toPrecision(3)}`;
  at("training-bar").value = told.step / told.steps;
  losses.push(told.loss);
  curve(at("training-curve"), losses);
  const shown = at("sample-grids").children.length;
  for (const grid of told.grids.slice(shown)) {
    at("sample-grids").append(make("li", {}, make("img", { src: grid, alt: `Samples: ${grid.split("/").at(-1)}` })));
  }
}
