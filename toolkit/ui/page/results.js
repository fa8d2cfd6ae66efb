// Everything that was made: a grid, a picture with its provenance, two pictures side by side.
import { ask, attempt } from "./api.js";
import { at, make, options } from "./dom.js";
import { openOnCanvas } from "./opening.js";

const PAGE = 60;
let pictures = [], chosen = [], loading = null;

export function startResults() {
  for (const id of ["filter-layout", "filter-concept", "filter-method"]) at(id).addEventListener("input", () => loadResults());
  at("more").addEventListener("click", () => attempt(() => load(pictures.length)));
  at("compare").addEventListener("click", compare);
  at("split").addEventListener("input", () => at("right").style.setProperty("--split", `${at("split").value}%`));
}

export function nameFilters(methods, concepts) {
  options(at("filter-method"), [["", "all"], ...methods.map((one) => one.name)], "");
  options(at("filter-concept"), [["", "all"], ...concepts.map((one) => one.name)], "");
}

// Several pictures that come at once are one look at the server.
export function loadResults() {
  clearTimeout(loading);
  loading = setTimeout(() => attempt(() => load(0)), 200);
}

async function load(skip) {
  const asked = new URLSearchParams({
    skip, most: PAGE, layout: at("filter-layout").value.trim(), concept: at("filter-concept").value, method: at("filter-method").value,
  });
  const answer = await ask(`/api/results?${asked}`);
  pictures = [...pictures.slice(0, skip), ...answer.pictures];
  at("count").textContent = `${answer.count} pictures`;
  at("more").hidden = pictures.length >= answer.count;
  at("layouts").replaceChildren(...[...new Set(pictures.map((one) => one.layout))].map((value) => make("option", { value })));
  at("grid").replaceChildren(...pictures.map(card));
}

const titled = (one) => `${one.layout}, seed ${one.seed}, ${one.method}`;
// A picture that was made anew has the same address: the time makes it another.
const source = (one) => `${one.image}?${one.changed}`;

function card(one) {
  const open = make("button", { className: "open", "aria-label": `Open ${titled(one)}` }, make("img", { src: source(one), alt: "", loading: "lazy" }));
  open.addEventListener("click", () => attempt(() => view(one)));
  const box = make("input", { type: "checkbox", checked: chosen.some((other) => other.image === one.image) });
  box.addEventListener("change", () => {
    chosen = chosen.filter((other) => other.image !== one.image);
    if (box.checked) chosen.push(one);
    at("compare").disabled = chosen.length !== 2;
  });
  return make("li", {}, open, make("div", { className: "told" },
    make("strong", { textContent: one.layout }), ` seed ${one.seed}`, make("br"), one.method, make("label", {}, box, " compare")));
}

async function view(one) {
  const entry = await ask(one.entry);
  const { inputs } = entry;
  at("viewer-title").textContent = titled(one);
  show(source(one), titled(one));
  const kinds = [["Picture", source(one)], ["Attention", one.attention], ["Losses", one.losses]].filter(([, address]) => address);
  at("viewer-kinds").replaceChildren(...kinds.map(([text, address]) => {
    const button = make("button", { textContent: text });
    button.addEventListener("click", () => show(address, `${text} of ${titled(one)}`));
    return button;
  }), make("a", { href: one.image, download: `${one.layout}_${one.seed}.png`, textContent: "Download" }));
  const told = {
    prompt: inputs.layout.prompt, "negative prompt": inputs.layout.negative_prompt || "none",
    regions: inputs.layout.regions.map((region) => `${region.concept}: ${region.prompt}`).join("\n") || "none",
    background: inputs.layout.background ?? "none", size: `${one.width} × ${one.height}`,
    base: inputs.base.name, steps: inputs.steps, guidance: inputs.guidance_scale, seconds: entry.seconds,
    "losses, first and last": entry.losses.length ? `${entry.losses[0].toPrecision(4)}, ${entry.losses.at(-1).toPrecision(4)}` : "none",
    method: Object.entries(inputs.method).map(([key, value]) => `${key} ${value}`).join(", "),
    "taken further": entry.further ? `from ${entry.further.first.method}: ${Object.entries(inputs.second).map(([key, value]) => `${key} ${value}`).join(", ")}` : "no",
    concepts: Object.entries(inputs.concepts).map(([name, hash]) => `${name} ${hash.slice(0, 12)}`).join(", "),
  };
  at("provenance").replaceChildren(...Object.entries(told).flatMap(([key, value]) => [make("dt", { textContent: key }), make("dd", { textContent: value })]));
  at("provenance").tabIndex = 0;
  at("reopen").onclick = () => openOnCanvas(inputs.layout);
  at("viewer").showModal();
}

function show(address, alt) {
  Object.assign(at("viewer-image"), { src: address, alt });
}

function compare() {
  const [left, right] = chosen;
  Object.assign(at("left"), { src: source(left), alt: titled(left) });
  Object.assign(at("right"), { src: source(right), alt: titled(right) });
  at("comparison-text").textContent = `left: ${titled(left)}; right: ${titled(right)}`;
  at("comparison").showModal();
}
