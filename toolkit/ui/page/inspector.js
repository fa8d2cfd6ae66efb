// The panels beside the canvas: regions, scene, size, and the method with its settings.
import { canRedo, canUndo, change, drawing, duplicateRegion, giveConcept, open, redo, removeRegion, reorder, select, set, undo, watch, withPlaceholder } from "./drawing.js";
import { at, colour, make, options } from "./dom.js";

let base, methods = [], concepts = [];

export function startInspector(loadedBase, offered) {
  base = loadedBase;
  methods = offered;
  at("base").textContent = `base: ${base.name}`;
  sizes();
  methodChoices();
  for (const [id, act] of Object.entries(ACTIONS)) at(id).addEventListener("click", act);
  for (const [id, field] of Object.entries(SCENE)) {
    at(id).addEventListener("input", () => change(id, (layout) => (layout[field] = at(id).value)));
  }
  at("background").addEventListener("change", background);
  for (const side of ["width", "height"]) {
    at(side).step = at(side).min = base.multiple;
    at(side).addEventListener("change", () => change("", (layout) => (layout[side] = fitting(at(side).value))));
  }
  at("size").addEventListener("change", () => {
    const [width, height] = at("size").value.split("x").map(Number);
    if (width) change("", (layout) => Object.assign(layout, { width, height }));
  });
  regionFields();
  methodFields();
  watch(render);
}

export function nameConcepts(found) {
  concepts = found.filter((one) => one.fits).map((one) => one.name);
  render();
}

const SCENE = { name: "name", prompt: "prompt", negative: "negative_prompt" };
const ACTIONS = {
  undo, redo,
  duplicate: () => duplicateRegion(drawing.selected),
  delete: () => removeRegion(drawing.selected),
  forward: () => reorder(drawing.selected, -1),
  backward: () => reorder(drawing.selected, 1),
  "new-layout": () => open({ name: "drawing", prompt: "", negative_prompt: "", width: base.width, height: base.height, background: null, regions: [] }),
};

function fitting(typed) {
  return Math.max(base.multiple, Math.round(Number(typed) / base.multiple) * base.multiple);
}

function sizes() {
  const { width, height } = base, shapes = [[1, 1], [2, 1], [1, 2], [3, 2], [2, 3], [2, 2]];
  const list = shapes.map(([x, y]) => `${fitting(width * x)}x${fitting(height * y)}`);
  options(at("size"), [["", "own"], ...new Set(list)].map((one) => (Array.isArray(one) ? one : [one, one.replace("x", " × ")])), "");
}

function methodChoices() {
  const main = document.createElement("optgroup"), parts = document.createElement("optgroup");
  main.label = "Methods";
  parts.label = "With and without single parts";
  for (const one of methods) (one.part ? parts : main).append(make("option", { value: one.name, textContent: one.name.replaceAll("_", " ") }));
  at("method").replaceChildren(main, parts);
}

function background() {
  const name = at("background").value || null;
  change("", (layout) => {
    layout.background = name;
    if (name) layout.prompt = withPlaceholder(layout.prompt, name);
  });
}

function regionFields() {
  const now = () => drawing.layout.regions[drawing.selected];
  at("region-concept").addEventListener("change", () => giveConcept(drawing.selected, at("region-concept").value));
  at("region-prompt").addEventListener("input", () => change(`prompt ${drawing.selected}`, () => (now().prompt = at("region-prompt").value)));
  at("region-prompt").addEventListener("blur", () => {
    if (now()) change(`prompt ${drawing.selected}`, () => (now().prompt = withPlaceholder(now().prompt, now().concept)));
  });
  at("region-negative").addEventListener("input", () => change(`negative ${drawing.selected}`, () => (now().negative_prompt = at("region-negative").value || null)));
  at("region-strength").addEventListener("input", () => change(`strength ${drawing.selected}`, () => (now().strength = Number(at("region-strength").value))));
  at("region-feather").addEventListener("input", () => change(`feather ${drawing.selected}`, () => (now().feather = Number(at("region-feather").value))));
}

function methodFields() {
  at("method").addEventListener("change", () => set({ method: at("method").value, switches: {} }));
  at("seeds").addEventListener("input", () => set({ seeds: at("seeds").value }));
  at("steps").addEventListener("input", () => set({ steps: number("steps") }));
  at("guidance").addEventListener("input", () => set({ guidance_scale: number("guidance") }));
  at("upscale").addEventListener("input", () => set({ upscale: number("upscale") }));
  for (const id of ["detail", "decoded", "overwrite"]) at(id).addEventListener("change", () => set({ [id]: at(id).checked }));
}

const number = (id) => (at(id).value === "" ? null : Number(at(id).value));

function put(id, value) {
  if (document.activeElement !== at(id) && at(id).value !== String(value ?? "")) at(id).value = value ?? "";
}

function render() {
  const { layout, selected, settings } = drawing;
  at("undo").disabled = !canUndo();
  at("redo").disabled = !canRedo();
  for (const [id, field] of Object.entries(SCENE)) put(id, layout[field]);
  put("width", layout.width);
  put("height", layout.height);
  at("size").value = `${layout.width}x${layout.height}`;
  if (!at("size").value) at("size").value = "";
  named("background", layout.background, [["", "none"]]);
  at("regions").replaceChildren(...layout.regions.map((region, place) => listed(region, place)));
  const region = layout.regions[selected];
  at("region").hidden = !region;
  if (region) {
    named("region-concept", region.concept, []);
    put("region-prompt", region.prompt);
    put("region-negative", region.negative_prompt);
    const steady = typeof region.strength === "number"; // a schedule is kept as its file has it
    at("region-strength").disabled = !steady;
    at("region-strength").value = steady ? region.strength : region.strength.start ?? 1;
    at("region-strength-shown").value = steady ? region.strength : "a schedule";
    at("region-feather").value = region.feather ?? 0;
    at("region-feather-shown").value = region.feather ?? 0;
  }
  renderMethod(settings);
}

function named(id, chosen, before) {
  const known = chosen && !concepts.includes(chosen) ? [chosen, ...concepts] : concepts;
  options(at(id), [...before, ...known], chosen ?? "");
}

function listed(region, place) {
  const button = make("button", { textContent: `${place + 1} ${region.concept}: ${region.prompt}${region.depth ? ` (depth ${region.depth})` : ""}`, "aria-pressed": String(place === drawing.selected) });
  button.style.borderLeftColor = colour(place);
  button.addEventListener("click", () => {
    select(place);
    at("canvas").focus();
  });
  return make("li", {}, button);
}

let shown = null;

function renderMethod(settings) {
  const method = methods.find((one) => one.name === settings.method) ?? methods[0];
  at("method").value = method.name;
  at("method-says").textContent = method.says;
  put("seeds", settings.seeds);
  put("steps", settings.steps);
  put("guidance", settings.guidance_scale);
  at("steps").placeholder = base.steps;
  at("guidance").placeholder = base.guidance_scale;
  put("upscale", settings.upscale);
  at("upscale").placeholder = 1;
  at("detail").checked = settings.detail;
  at("decoded").checked = settings.decoded;
  at("overwrite").checked = settings.overwrite;
  if (shown === method.name) return;
  shown = method.name;
  at("switches").replaceChildren(...method.switches.map((one) => switchField(one)));
}

function switchField(one) {
  const value = drawing.settings.switches[one.name] ?? one.value;
  let field;
  if (one.kind === "yes_no") field = make("input", { type: "checkbox", checked: value });
  else if (one.kind === "choice") {
    field = make("select");
    options(field, one.choices, value);
  } else field = make("input", { type: one.kind === "number" ? "number" : "text", step: "any", value: value ?? "" });
  field.addEventListener("change", () => {
    const typed = one.kind === "yes_no" ? field.checked : one.kind === "number" ? Number(field.value) : field.value || null;
    const switches = { ...drawing.settings.switches, [one.name]: typed };
    if (typed === one.value) delete switches[one.name];
    set({ switches });
  });
  const label = make("label", { title: one.name }, make("span", { textContent: one.meaning || one.name.replaceAll("_", " ") }), field);
  return label;
}
