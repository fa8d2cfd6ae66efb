// Training from files: what is sent, what is refused, and how it goes.
import { ask, attempt, notice } from "./api.js";
import { at, curve, make } from "./dom.js";

const TAKEN = /\.(png|jpe?g|webp|bmp|tiff?|gif|txt|caption)$/i;
let running = null, losses = [];

export function startTrain() {
  at("train").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(send);
  });
  for (const id of ["train-files", "train-folder"]) at(id).addEventListener("change", inventory);
  at("training-stop").addEventListener("click", () => attempt(() => ask(`/api/jobs/${running}`, { method: "DELETE" })));
}

// Each file with the name that it is sent by: of a folder only what lies in it, and in masks/.
function chosenFiles() {
  return [...at("train-files").files, ...at("train-folder").files].map((file) => {
    const parts = (file.webkitRelativePath || file.name).split("/");
    const inside = file.webkitRelativePath ? parts.slice(1) : parts;
    return { file, name: inside.join("/"), taken: TAKEN.test(file.name) && (inside.length === 1 || (inside.length === 2 && inside[0] === "masks")) };
  });
}

function inventory() {
  const files = chosenFiles(), taken = files.filter((one) => one.taken);
  const captions = taken.filter((one) => /\.(txt|caption)$/i.test(one.name)).length;
  const masks = taken.filter((one) => one.name.startsWith("masks/")).length;
  at("inventory").textContent = `${taken.length - captions - masks} images, ${captions} captions, ${masks} masks; ${files.length - taken.length} files are not used`;
  at("refused").replaceChildren();
}

async function send() {
  const name = at("train-name").value, files = chosenFiles().filter((one) => one.taken);
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
