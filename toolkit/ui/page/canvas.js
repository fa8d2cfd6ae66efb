// The canvas: regions drawn, moved and resized by mouse, finger and keyboard, with Konva.
/* global Konva */
import { addRegion, boundsOf, boxOf, change, drawing, duplicateRegion, moved, putIn, redo, removeRegion, reorder, select, undo, watch } from "./drawing.js";
import { at, colour } from "./dom.js";
import { notice } from "./api.js";

const STEP = 0.01;
let stage, layer, handles, paper;
let area = { x: 0, y: 0, width: 1, height: 1 };
let begun = null;

export function startCanvas() {
  const place = at("canvas");
  stage = new Konva.Stage({ container: place, width: 10, height: 10 });
  layer = new Konva.Layer();
  stage.add(layer);
  stage.on("mousedown touchstart", begin);
  stage.on("mousemove touchmove", stretch);
  window.addEventListener("mouseup", finish);
  window.addEventListener("touchend", finish);
  place.addEventListener("keydown", key);
  new ResizeObserver(render).observe(place);
  watch(render);
}

function render() {
  const place = at("canvas"), { layout, selected } = drawing;
  stage.size({ width: place.clientWidth, height: place.clientHeight });
  const scale = Math.min((place.clientWidth - 24) / layout.width, (place.clientHeight - 24) / layout.height);
  area = { width: layout.width * scale, height: layout.height * scale };
  area.x = (place.clientWidth - area.width) / 2;
  area.y = (place.clientHeight - area.height) / 2;
  layer.destroyChildren();
  const style = getComputedStyle(document.body);
  paper = new Konva.Rect({ ...area, fill: style.backgroundColor, stroke: style.color, strokeWidth: 1 });
  layer.add(paper);
  handles = new Konva.Transformer({
    rotateEnabled: false, flipEnabled: false, keepRatio: false, ignoreStroke: true, anchorSize: 10,
    boundBoxFunc: (before, after) => (after.width < 6 || after.height < 6 ? before : after),
  });
  const behindFirst = layout.regions.map((region, number) => [region, number]).sort(([a], [b]) => (b.depth ?? 0) - (a.depth ?? 0));
  for (const [region, number] of behindFirst) layer.add(shape(region, number));
  layer.add(handles);
  const chosen = layer.findOne(`#region-${selected}`);
  handles.nodes(chosen ? [chosen] : []);
  layer.batchDraw();
}

function shape(region, number) {
  const [x0, y0, x1, y1] = boundsOf(region);
  const size = { width: (x1 - x0) * area.width, height: (y1 - y0) * area.height };
  const group = new Konva.Group({ id: `region-${number}`, x: area.x + x0 * area.width, y: area.y + y0 * area.height, ...size, draggable: true });
  const look = { fill: `${colour(number)}33`, stroke: colour(number), strokeWidth: 2, strokeScaleEnabled: false };
  const points = region.polygon?.flatMap(([x, y]) => [(x - x0) * area.width, (y - y0) * area.height]);
  const box = region.box ? new Konva.Rect({ ...size, ...look }) : new Konva.Line({ points, closed: true, ...look });
  const text = new Konva.Text({
    text: `${number + 1} ${region.concept}`, fontSize: 13, padding: 5, fill: getComputedStyle(document.body).color,
    width: size.width, wrap: "none", ellipsis: true, listening: false,
  });
  group.add(box, text);
  group.dragBoundFunc((position) => ({
    x: Math.min(Math.max(position.x, area.x), area.x + area.width - size.width),
    y: Math.min(Math.max(position.y, area.y), area.y + area.height - size.height),
  }));
  group.on("mousedown touchstart", (event) => {
    event.cancelBubble = true;
    if (drawing.selected !== number) {
      drawing.selected = number;
      handles.nodes([group]);
    }
  });
  group.on("click tap", () => select(number));
  group.on("dragend transformend", () => keep(group, number));
  return group;
}

function keep(group, number) {
  const x = (group.x() - area.x) / area.width, y = (group.y() - area.y) / area.height;
  const wide = (group.width() * group.scaleX()) / area.width, high = (group.height() * group.scaleY()) / area.height;
  change("", (layout) => putIn(layout.regions[number], boxOf(x, y, x + wide, y + high)));
  select(number);
}

function pointer() {
  const position = stage.getPointerPosition();
  return [(position.x - area.x) / area.width, (position.y - area.y) / area.height];
}

function begin(event) {
  if (event.target !== stage && event.target !== paper) return;
  at("canvas").focus();
  const [x, y] = pointer();
  const look = { stroke: colour(drawing.layout.regions.length), dash: [5, 4], strokeWidth: 2 };
  const lasso = at("tool").value === "lasso";
  const band = lasso ? new Konva.Line(look) : new Konva.Rect(look);
  layer.add(band);
  begun = { x, y, band, box: null, path: lasso ? [inside(x, y)] : null };
}

function stretch() {
  if (!begun) return;
  const [x, y] = pointer();
  if (begun.path) return draw(x, y);
  const [x0, y0, x1, y1] = (begun.box = boxOf(begun.x, begun.y, x, y));
  begun.band.setAttrs({ x: area.x + x0 * area.width, y: area.y + y0 * area.height, width: (x1 - x0) * area.width, height: (y1 - y0) * area.height });
}

const inside = (...point) => point.map((value) => Math.round(Math.min(Math.max(value, 0), 1) * 1e4) / 1e4);

// A corner of the lasso each few pixels.
function draw(x, y) {
  const [before, beforeY] = begun.path.at(-1);
  if (Math.hypot((x - before) * area.width, (y - beforeY) * area.height) < 7) return;
  begun.path.push(inside(x, y));
  begun.band.points(begun.path.flatMap(([px, py]) => [area.x + px * area.width, area.y + py * area.height]));
}

function finish() {
  if (!begun) return;
  const { band, path } = begun;
  const box = path?.length > 3 ? boundsOf({ polygon: path }) : begun.box;
  begun = null;
  band.destroy();
  if (box === null || (box[2] - box[0]) * area.width < 8 || (box[3] - box[1]) * area.height < 8) select(-1);
  else add(path ? { polygon: path } : { box });
}

function add(place) {
  if (drawing.concept === null) notice("There is no concept yet: train one, or import a LoRA.");
  else addRegion(place, drawing.concept);
}

const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

function key(event) {
  if (!shortcut(event)) return;
  event.preventDefault();
  event.stopPropagation();
}

function shortcut(event) {
  const { selected, layout } = drawing, count = layout.regions.length;
  if (event.ctrlKey || event.metaKey) {
    if (event.key.toLowerCase() !== "d") return false;
    duplicateRegion(selected);
    return true;
  }
  if (event.key.toLowerCase() === "n") add({ box: boxOf(0.3, 0.3, 0.7, 0.9) });
  else if (event.key === "." && count) select((selected + 1) % count);
  else if (event.key === "," && count) select((selected - 1 + count) % count);
  else if (event.key === "Escape") select(-1);
  else if (selected < 0) return false;
  else if (event.key === "Delete" || event.key === "Backspace") removeRegion(selected);
  else if (event.key === "]") reorder(selected, -1);
  else if (event.key === "[") reorder(selected, 1);
  else if (MOVES[event.key]) nudge(...MOVES[event.key], event.shiftKey);
  else return false;
  return true;
}

function nudge(dx, dy, resize) {
  change(`nudge ${drawing.selected} ${resize}`, (layout) => {
    const region = layout.regions[drawing.selected], box = boundsOf(region), [x0, y0, x1, y1] = box;
    putIn(region, resize ? boxOf(x0, y0, Math.max(x1 + dx, x0 + 0.01), Math.max(y1 + dy, y0 + 0.01)) : moved(box, dx, dy));
  });
}

export function globalKeys(event) {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, dialog");
  if (typing || !(event.ctrlKey || event.metaKey)) return;
  const pressed = event.key.toLowerCase();
  if (pressed === "z") event.shiftKey ? redo() : undo();
  else if (pressed === "y") redo();
  else return;
  event.preventDefault();
}
