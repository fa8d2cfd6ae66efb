// The page: loads what the server has, then starts each part.
import { ask, attempt, listen } from "./api.js";
import { globalKeys, startCanvas } from "./canvas.js";
import { startChecks } from "./checks.js";
import { drawing, restore, tell } from "./drawing.js";
import { at } from "./dom.js";
import { startInspector } from "./inspector.js";
import { showTab, startOpening } from "./opening.js";
import { fresh, handlers, startQueue } from "./queue.js";
import { loadResults, nameFilters, startResults } from "./results.js";
import { loadShelf, startImport } from "./shelf.js";
import { startTrain } from "./train.js";

function startTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  for (const [place, tab] of tabs.entries()) {
    tab.addEventListener("click", () => showTab(tab.id.slice(4)));
    tab.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      const other = tabs[(place + by + tabs.length) % tabs.length];
      showTab(other.id.slice(4));
      other.focus();
    });
  }
  showTab("draw");
}

function startTheme() {
  const root = document.documentElement, kept = localStorage.getItem("toolkit-theme");
  if (kept) root.dataset.theme = kept;
  at("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("toolkit-theme", root.dataset.theme);
    tell();
  });
}

async function start() {
  startTheme();
  startTabs();
  const [base, methods, concepts] = await Promise.all([ask("/api/base"), ask("/api/methods"), ask("/api/concepts")]);
  Object.assign(drawing.layout, { width: base.width, height: base.height });
  restore();
  startInspector(base, methods);
  startCanvas();
  startChecks();
  startQueue();
  startOpening();
  startImport();
  startResults();
  nameFilters(methods, concepts);
  startTrain();
  await loadShelf();
  loadResults();
  document.addEventListener("keydown", globalKeys);
  listen(handlers, fresh);
  tell();
  document.body.dataset.ready = "yes";
}

attempt(start);
