// Elements by id, and new ones.

export const at = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export function options(select, values, chosen) {
  select.replaceChildren(
    ...values.map((one) => {
      const [value, text] = Array.isArray(one) ? one : [one, one];
      return make("option", { value, textContent: text, selected: value === chosen });
    }),
  );
}

// The figures of `toolkit compose` have the same.
const COLOURS = ["#e4572e", "#17bebb", "#ffc914", "#76b041", "#8f5bd8", "#d0417e"];
export const colour = (number) => COLOURS[number % COLOURS.length];

export function curve(svg, values) {
  svg.replaceChildren();
  if (values.length < 2) return;
  const low = Math.min(...values), high = Math.max(...values), span = high - low || 1;
  const points = values.map((value, number) =>
    `${((number / (values.length - 1)) * 200).toFixed(1)},${(58 - ((value - low) / span) * 56).toFixed(1)}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  svg.setAttribute("aria-label", `from ${values[0].toPrecision(3)} to ${values.at(-1).toPrecision(3)}`);
}
