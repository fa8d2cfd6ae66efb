// The layout on the canvas and how it is to be made, with undo; kept in the browser over a reload.

const KEPT = "toolkit-drawing";
const watchers = [];
let past = [], future = [], last = "";

export const drawing = {
  layout: { name: "drawing", prompt: "", negative_prompt: "", width: 128, height: 128, background: null, regions: [] },
  settings: { method: "balanced", switches: {}, seeds: "1", steps: null, guidance_scale: null, upscale: null, detail: false, decoded: false, overwrite: false },
  selected: -1,
  concept: null, // what a new region is given
};

export function watch(changed) {
  watchers.push(changed);
}

export function tell() {
  localStorage.setItem(KEPT, JSON.stringify(drawing));
  for (const changed of watchers) changed();
}

// One step of undo; changes of the same `what` that follow one another are one step.
export function change(what, act) {
  const before = JSON.stringify(drawing.layout);
  act(drawing.layout);
  if (JSON.stringify(drawing.layout) === before) return;
  if (what === "" || what !== last) past.push(before);
  past = past.slice(-200);
  future = [];
  last = what;
  tell();
}

export function set(settings) {
  Object.assign(drawing.settings, settings);
  tell();
}

export function select(number) {
  drawing.selected = number;
  last = "";
  tell();
}

function travel(from, to) {
  if (!from.length) return;
  to.push(JSON.stringify(drawing.layout));
  drawing.layout = JSON.parse(from.pop());
  drawing.selected = Math.min(drawing.selected, drawing.layout.regions.length - 1);
  last = "";
  tell();
}

export const undo = () => travel(past, future);
export const redo = () => travel(future, past);
export const canUndo = () => past.length > 0;
export const canRedo = () => future.length > 0;

export function open(layout) {
  drawing.selected = -1;
  change("", (now) => {
    for (const key of Object.keys(now)) delete now[key];
    Object.assign(now, structuredClone(layout));
  });
}

export function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT));
    if (Array.isArray(kept?.layout?.regions)) Object.assign(drawing, kept, { settings: { ...drawing.settings, ...kept.settings } });
    return kept !== null;
  } catch {
    return false;
  }
}

// A region's prompt names its concept: the placeholder is put there, and kept.
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
export function withPlaceholder(prompt, concept) {
  if (new RegExp(`<${escaped(concept)}\\d*>`).test(prompt)) return prompt;
  return `<${concept}> ${prompt}`.trim();
}

// place: { box } or { polygon }.
export function addRegion(place, concept) {
  change("", (layout) => layout.regions.push({ concept, prompt: `<${concept}>`, negative_prompt: null, strength: 1, ...place }));
  select(drawing.layout.regions.length - 1);
}

export function giveConcept(number, concept) {
  change("", (layout) => {
    const region = layout.regions[number];
    const renamed = region.prompt.replaceAll(new RegExp(`<${escaped(region.concept)}(\\d*)>`, "g"), `<${concept}$1>`);
    Object.assign(region, { concept, prompt: withPlaceholder(renamed, concept) });
  });
}

export function removeRegion(number) {
  if (number < 0) return;
  change("", (layout) => layout.regions.splice(number, 1));
  select(Math.min(number, drawing.layout.regions.length - 1));
}

export function duplicateRegion(number) {
  if (number < 0) return;
  change("", (layout) => {
    const copy = structuredClone(layout.regions[number]);
    const box = boundsOf(copy);
    putIn(copy, moved(box, box[2] < 0.95 ? 0.05 : -0.05, box[3] < 0.95 ? 0.05 : -0.05));
    layout.regions.push(copy);
  });
  select(drawing.layout.regions.length - 1);
}

// Of regions that overlap, the one of least depth stands in front; by: -1 is towards the front.
export function reorder(number, by) {
  if (number >= 0) change("", (layout) => (layout.regions[number].depth = (layout.regions[number].depth ?? 0) + by));
}

// The box around a region, whatever its shape.
export function boundsOf(region) {
  if (region.box) return region.box;
  const across = region.polygon.map(([x]) => x), down = region.polygon.map(([, y]) => y);
  return [Math.min(...across), Math.min(...down), Math.max(...across), Math.max(...down)];
}

// Moves and stretches a region into another box.
export function putIn(region, box) {
  if (region.box) {
    region.box = box;
    return;
  }
  const [left, top, right, bottom] = boundsOf(region), [x0, y0, x1, y1] = box;
  region.polygon = region.polygon.map(([x, y]) => [
    rounded(x0 + ((x - left) / (right - left)) * (x1 - x0)), rounded(y0 + ((y - top) / (bottom - top)) * (y1 - y0)),
  ]);
}

const rounded = (value) => Math.round(value * 1e4) / 1e4;

export function moved([x0, y0, x1, y1], dx, dy) {
  dx = Math.min(Math.max(dx, -x0), 1 - x1);
  dy = Math.min(Math.max(dy, -y0), 1 - y1);
  return [x0 + dx, y0 + dy, x1 + dx, y1 + dy].map(rounded);
}

// A box inside the canvas, at least a hundredth wide and high.
export function boxOf(x0, y0, x1, y1) {
  const inside = (value) => Math.min(Math.max(value, 0), 1);
  const [left, right] = [inside(Math.min(x0, x1)), inside(Math.max(x0, x1))];
  const [top, bottom] = [inside(Math.min(y0, y1)), inside(Math.max(y0, y1))];
  const wide = Math.max(right - left, 0.01), high = Math.max(bottom - top, 0.01);
  const x = Math.min(left, 1 - wide), y = Math.min(top, 1 - high);
  return [x, y, x + wide, y + high].map(rounded);
}
