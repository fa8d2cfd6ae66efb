// The blind page: a picture at a time, two questions, an answer that is kept at once.
import { ask, attempt } from "./api.js";
import { at, make } from "./dom.js";

const KEPT = "toolkit-rater";
const rater = localStorage.getItem(KEPT) ?? [...crypto.getRandomValues(new Uint8Array(8))].map((one) => one.toString(16).padStart(2, "0")).join("");
localStorage.setItem(KEPT, rater);
let shown = null;

for (const question of ["text", "subjects"]) {
  for (let mark = 1; mark <= 5; mark++) {
    at(question).append(make("label", {}, make("input", { type: "radio", name: question, value: mark, required: true }), ` ${mark}`));
  }
}

async function next() {
  const asked = await ask(`/api/rate/next?rater=${rater}`);
  at("base").textContent = `${asked.done} of ${asked.cases} done`;
  if (asked.case === null) return end();
  const place = asked.left[0];
  if (shown?.case !== asked.case) references(asked);
  shown = { case: asked.case, place };
  at("which").textContent = `Picture ${place + 1} of ${asked.pictures}`;
  at("picture").src = `/api/rate/pictures/${asked.case}/${place}?rater=${rater}`;
  at("picture").alt = `Picture ${place + 1}`;
  at("answer").reset();
}

function references({ prompt, concepts }) {
  at("prompt").textContent = prompt;
  at("references").replaceChildren(...concepts.map((name) => {
    const group = make("figure", {}, make("figcaption", { textContent: name }));
    for (let number = 0; number < 4; number++) {
      const image = make("img", { src: `/api/rate/references/${name}/${number}`, alt: `${name}, image ${number + 1}` });
      image.addEventListener("error", () => image.remove());
      group.append(image);
    }
    return group;
  }));
}

at("answer").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = new FormData(at("answer"));
  attempt(async () => {
    await ask("/api/rate", { json: { rater, ...shown, text: Number(given.get("text")), subjects: Number(given.get("subjects")) } });
    await next();
  });
});

async function end() {
  at("question").hidden = true;
  at("end").hidden = false;
  const shownInterval = (one) => (one ? `${one.mean.toFixed(2)} [${one.low.toFixed(2)}, ${one.high.toFixed(2)}]` : "–");
  at("summary").replaceChildren(...(await ask("/api/rate/summary")).map((one) =>
    make("tr", {}, ...[one.method, one.ratings, shownInterval(one.text), shownInterval(one.subjects)].map((text) => make("td", { textContent: text })))));
}

attempt(next);
