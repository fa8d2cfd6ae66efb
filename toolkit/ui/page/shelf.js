// The concepts: chosen here for the next region, or for the one that is selected.
import { ask, attempt } from "./api.js";
import { drawing, giveConcept, tell } from "./drawing.js";
import { at, make } from "./dom.js";
import { nameConcepts } from "./inspector.js";

let concepts = [];

export async function loadShelf() {
  concepts = await ask("/api/concepts");
  const fitting = concepts.filter((one) => one.fits).map((one) => one.name);
  if (!fitting.includes(drawing.concept)) drawing.concept = fitting[0] ?? null;
  nameConcepts(concepts);
  render();
}

function render() {
  at("shelf").replaceChildren(...concepts.map(item));
  if (!concepts.length) at("shelf").replaceChildren(make("li", { className: "quiet", textContent: "None yet: train one, or import a LoRA." }));
}

function item(one) {
  const picture = make("img", { src: one.picture, alt: "", loading: "lazy" });
  picture.addEventListener("error", () => picture.replaceWith(make("span", { className: "letter", textContent: one.name[0] })));
  const told = one.fits ? one.class_word : `made for ${one.base_name || one.model}`;
  const button = make("button", { disabled: !one.fits, title: told, "aria-pressed": String(one.name === drawing.concept) },
    picture, make("strong", { textContent: one.name }), make("span", { className: "quiet", textContent: told }));
  button.addEventListener("click", () => {
    drawing.concept = one.name;
    if (drawing.selected >= 0) giveConcept(drawing.selected, one.name);
    else tell();
    for (const other of at("shelf").querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
  });
  return make("li", {}, button);
}

export function startImport() {
  at("import").addEventListener("click", () => at("importing").showModal());
  at("import-form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(send);
  });
}

export function offerImport(files) {
  at("import-file").files = files;
  const name = files[0].name.replace(/\.[^.]*$/, "").replace(/[^\w-]+/g, "_");
  at("import-name").value = name;
  at("importing").showModal();
}

async function send() {
  const asked = new URLSearchParams({
    name: at("import-name").value, class_word: at("import-class").value, trigger: at("import-trigger").value,
  });
  await ask(`/api/concepts?${asked}`, { method: "POST", body: at("import-file").files[0] });
  at("importing").close();
}
