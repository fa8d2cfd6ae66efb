// Layouts onto the canvas: from a result, a dropped PNG, YAML or JSONL.
import { ask, attempt, notice } from "./api.js";
import { open } from "./drawing.js";
import { at, make } from "./dom.js";
import { offerImport } from "./shelf.js";
import { takeDropped } from "./train.js";

export function showTab(name) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    at(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
}

export function openOnCanvas(layout) {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  showTab("draw");
  open(layout);
  at("canvas").focus();
  notice(`“${layout.name}” is on the canvas.`);
}

export function startOpening() {
  at("open").addEventListener("click", () => at("open-file").click());
  at("open-file").addEventListener("change", () => {
    attempt(() => take(at("open-file").files));
    at("open-file").value = "";
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    attempt(() => (at("view-train").hidden ? take(event.dataTransfer.files) : takeDropped(event.dataTransfer)));
  });
}

async function take(files) {
  const [file] = files;
  if (/\.(safetensors|pt|pth|bin|ckpt)$/i.test(file.name)) return offerImport(files);
  const { layouts, left_out: leftOut } = await ask("/api/layouts/read", { method: "POST", body: file });
  if (leftOut.length) notice(`Left out: ${leftOut.join("; ")}`);
  if (layouts.length === 1) return openOnCanvas(layouts[0]);
  at("choices").replaceChildren(...layouts.map((layout) => {
    const button = make("button", { textContent: `${layout.name}: ${layout.prompt}` });
    button.addEventListener("click", () => openOnCanvas(layout));
    return make("li", {}, button);
  }));
  at("choose").showModal();
}
