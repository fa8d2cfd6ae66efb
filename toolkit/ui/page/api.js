// What the page asks the server, and what the server tells the page.

export async function ask(path, options = {}) {
  if (options.json !== undefined) {
    options = { method: "POST", body: JSON.stringify(options.json), headers: { "content-type": "application/json" } };
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer: is it still running?");
  }
  const value = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  if (!answer.ok) throw new Error(value.error ?? `the server answered ${answer.status}`);
  return value;
}

// Calls handlers[name](job, value) for each event; `fresh` when a stream begins, which repeats all.
export function listen(handlers, fresh) {
  const source = new EventSource("/api/events");
  source.onopen = fresh;
  for (const name of ["job", "begun", "step", "picture", "training"]) {
    source.addEventListener(name, (event) => {
      const told = JSON.parse(event.data);
      handlers[name](told.job, told.value);
    });
  }
}

let hiding;
export function notice(text) {
  const place = document.getElementById("notice");
  place.textContent = text;
  place.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (place.hidden = true), 7000);
}

// Runs what a person asked for; what goes wrong is said and ends nothing else.
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    notice(error.message);
  }
}
