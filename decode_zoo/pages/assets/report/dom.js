"use strict";

// Elements, numbers and files. Texts go into text nodes and attributes only, never through a
// parser of HTML: names of genes come from users.

function assign(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !(element instanceof SVGElement)) element[name] = value;
    else element.setAttribute(name, value);
  }
}

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  assign(element, properties);
  element.append(...children);
  return element;
}

function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  assign(element, attributes);
  element.append(...children);
  return element;
}

// A choice among [value, text] pairs; groups are [name, pairs].
function choice(label, entries, onchange, groups = []) {
  const option = ([value, text]) => make("option", { value }, text);
  const select = make("select", { onchange }, ...entries.map(option));
  for (const [name, pairs] of groups) {
    select.append(make("optgroup", { label: name }, ...pairs.map(option)));
  }
  return { select, node: make("label", {}, label, select) };
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

function decimals(value, count) {
  return value.toFixed(count).replace("-", "−");
}

function signed(value, count = 3) {
  const text = decimals(Math.abs(value), count);
  if (Number(text) === 0) return text;
  return (value < 0 ? "−" : "+") + text;
}

// Six significant digits, as in tables that the command line writes.
function exact(value) {
  return String(Number(value.toPrecision(6)));
}

function readable(name) {
  return name.replaceAll("_", " ");
}

function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

// A step of 1, 2 or 5 times a power of ten that cuts a span into about `parts`.
function niceStep(span, parts) {
  const raw = span / parts;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].find((digit) => digit * power >= raw) * power;
}

function saveTable(name, rows) {
  const quote = (cell) => {
    const text = String(cell ?? "");
    return /[\t\n\r"]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const text = rows.map((row) => row.map(quote).join("\t") + "\n").join("");
  const url = URL.createObjectURL(new Blob([text], { type: "text/tab-separated-values" }));
  make("a", { href: url, download: name }).click();
  // The browser reads the data after the click has returned.
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// The name of the file and its rows are asked for when they are wanted.
function saveButton(name, rows) {
  return make(
    "button",
    { type: "button", onclick: () => saveTable(name(), rows()) },
    "Save as TSV",
  );
}

function debounced(work) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, 150);
  };
}

const tip = {
  element: document.getElementById("tip"),
  show(text, x, y) {
    this.element.textContent = text;
    this.element.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const left = x + 14 + width > innerWidth ? x - width - 10 : x + 14;
    this.element.style.left = `${Math.max(4, left)}px`;
    this.element.style.top = `${clamp(y + 14, 4, innerHeight - height - 4)}px`;
  },
  hide() {
    this.element.hidden = true;
  },
};

// Whatever bears a data-tip shows it under the pointer.
document.addEventListener("pointermove", (event) => {
  const bearer = event.target instanceof Element && event.target.closest("[data-tip]");
  if (bearer) tip.show(bearer.getAttribute("data-tip"), event.clientX, event.clientY);
  else if (!(event.target instanceof HTMLCanvasElement)) tip.hide();
});
document.addEventListener("scroll", () => tip.hide(), { passive: true });
