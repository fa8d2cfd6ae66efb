// Live warnings by the server's checks, and the layout as a command and as YAML.
import { ask, attempt } from "./api.js";
import { drawing, watch } from "./drawing.js";
import { at, make } from "./dom.js";

let waiting, asked = "", answer = null, turn = 0;

export function startChecks() {
  watch(soon);
  at("as-yaml").addEventListener("click", () => attempt(() => showText("The layout as YAML", "yaml")));
  at("as-command").addEventListener("click", () => attempt(() => showText("The same as commands", "command")));
  at("text-copy").addEventListener("click", copy);
}

// What POST /api/compose takes.
export function order() {
  const { layout, settings } = drawing;
  const { method, switches, steps, guidance_scale, detail } = settings;
  return { layout, method, switches, steps, guidance_scale, upscale: settings.upscale ?? 1, detail, seeds: seedsOf(settings.seeds) };
}

function seedsOf(text) {
  const trimmed = text.trim().replace(/^\[|\]$/g, "");
  if (/^\d+$/.test(trimmed) && !text.includes("[")) return Number(trimmed);
  const listed = trimmed.split(",").map((one) => one.trim()).filter(Boolean);
  if (!listed.length || !listed.every((one) => /^\d+$/.test(one))) throw new Error("Seeds: a count, as 4, or a list, as 7, 11");
  return listed.map(Number);
}

function soon() {
  clearTimeout(waiting);
  waiting = setTimeout(check, 250);
}

async function check() {
  const mine = ++turn;
  try {
    const now = order();
    if (JSON.stringify(now) === asked && answer?.complete) return;
    const said = await ask("/api/layouts/check", { json: now });
    if (mine !== turn) return;
    asked = JSON.stringify(now);
    answer = said;
    show(said);
    if (!said.complete) waiting = setTimeout(check, 1500);
  } catch (error) {
    if (mine === turn) show({ problem: error.message, remarks: [], complete: true });
  }
}

function show(said) {
  const lines = said.problem ? [["bad", said.problem]] : [];
  for (const remark of said.remarks) lines.push(["odd", remark]);
  if (!lines.length) lines.push(["good", said.complete ? "Nothing is wrong with this layout." : "The base is being loaded; files and boxes are right so far."]);
  at("checks").replaceChildren(...lines.map(([kind, text]) => make("li", { className: kind, textContent: text })));
}

async function showText(title, what) {
  const said = await ask("/api/layouts/check", { json: order() });
  if (!said[what]) throw new Error(said.problem);
  at("text-title").textContent = title;
  at("text-shown").textContent = said[what];
  if (said.problem) at("text-shown").textContent += `\n\n# ${said.problem}`;
  at("text").showModal();
}

async function copy() {
  const range = document.createRange();
  range.selectNodeContents(at("text-shown"));
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  await navigator.clipboard?.writeText(at("text-shown").textContent);
  at("text-copy").textContent = "Copied";
  setTimeout(() => (at("text-copy").textContent = "Copy"), 1500);
}
