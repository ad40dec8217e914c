"use strict";
const root = document.documentElement;
const known = JSON.parse(document.getElementById("known").textContent);
const { classes, splits, images, atlas, plane, tested, models } = known;
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const MOST_AT_ONCE = 120;
root.classList.add("scripted");

function make(name, attributes = {}, ...inside) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inside);
  return element;
}

/* Thumbnails: one cell of a sheet, scaled to fit a box. */

function sprite(number, box) {
  const width = images.width[number], height = images.height[number];
  if (!width) return make("span", { class: "blank" }, "no picture");
  const scale = Math.min(box / Math.max(width, height), atlas.pixelated ? 32 : 2);
  const cells = atlas.columns * atlas.columns;
  const place = number % cells, cell = atlas.cell * scale;
  const found = make("span", { class: `sprite sheet${Math.floor(number / cells)}` });
  if (atlas.pixelated) found.classList.add("square-pixels");
  const rows = Math.ceil(Math.min(cells, images.path.length - (number - place)) / atlas.columns);
  found.style.width = `${Math.round(width * scale)}px`;
  found.style.height = `${Math.round(height * scale)}px`;
  found.style.backgroundSize = `${atlas.columns * cell}px ${rows * cell}px`;
  const left = (place % atlas.columns) * cell + scale, top = Math.floor(place / atlas.columns) * cell + scale;
  found.style.backgroundPosition = `${-left}px ${-top}px`;
  return found;
}

function thumb(number, box, words, act = openPicture) {
  const button = make("button", { type: "button", class: "thumb", "aria-label": words }, sprite(number, box));
  button.addEventListener("click", () => act(number));
  return button;
}

function fill() {
  for (const button of all("button[data-picture]")) {
    const number = Number(button.dataset.picture);
    button.append(sprite(number, Number(button.dataset.box)));
    button.addEventListener("click", () => openPicture(number));
  }
  for (const button of all("button[data-look]")) {
    button.addEventListener("click", () => openPicture(Number(button.dataset.look)));
  }
}

/* One picture, what was said of it, and its nearest neighbours. */

const label = number => classes[images.label[number]];
const place = new Map(tested.map((number, at) => [number, at]));

function told(number) {
  const list = make("dl", { class: "told" });
  const add = (title, ...words) => list.append(make("div", {}, make("dt", {}, title), make("dd", {}, ...words)));
  add("label", label(number));
  add("split", splits[images.split[number]]);
  for (const model of place.has(number) ? models : []) {
    const at = place.get(number), code = model.predicted[at];
    if (code < 0) continue;
    const words = `${classes[code]}, ${(model.confidence[at] / 1000).toFixed(3)}`;
    add(model.name, code === images.label[number] ? words : make("b", { class: "bad" }, words));
  }
  return list;
}

function neighbours(number, act) {
  const list = make("ul", { class: "neighbours" });
  known.near[number].forEach((other, rank) => {
    const cosine = (known.cosine[number][rank] / 1000).toFixed(2);
    const button = thumb(other, 72, `Neighbour ${rank + 1}: ${label(other)}, ${images.path[other]}`, act);
    list.append(make("li", {}, button, make("br"), make("span", { class: "name" }, label(other)), ` ${cosine}`));
  });
  return list;
}

function describe(number, act) {
  const found = [make("p", { class: "path" }, images.path[number]), told(number)];
  if (known.near[number].length) {
    found.push(make("h3", {}, "Nearest neighbours"), neighbours(number, act));
    found.push(make("p", { class: "small soft" }, "With the cosine of their features around the mean."));
  }
  return found;
}

function openPicture(number) {
  const dialog = document.getElementById("picture");
  find("h2", dialog).textContent = images.path[number].split("/").pop();
  find(":scope > div", dialog).replaceChildren(sprite(number, 224), ...describe(number, openPicture));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

/* A cell of a confusion matrix opens its pictures: of mistakes the surest first, of what is right the least sure. */

function openCell(button) {
  const model = models[button.dataset.model];
  const [row, column, count] = ["row", "column", "count"].map(key => Number(button.dataset[key]));
  const there = tested
    .map((number, at) => ({ number, code: model.predicted[at], sure: model.confidence[at] }))
    .filter(one => one.code === column && images.label[one.number] === row)
    .sort((one, other) => (row === column ? one.sure - other.sure : other.sure - one.sure));
  const dialog = document.getElementById("cell");
  const what = row === column ? `${classes[row]}, taken for what they are` : `${classes[row]}, taken for ${classes[column]}`;
  find("h2", dialog).textContent = `${count} ${what}`;
  const list = make("ul", { class: "cell-pictures" });
  const body = find(":scope > div", dialog);
  body.replaceChildren(list);
  show(list, body, there, 0, count);
  dialog.showModal();
  dialog.scrollTop = 0;
}

function show(list, body, there, from, count) {
  for (const { number, sure } of there.slice(from, from + MOST_AT_ONCE)) {
    const words = `${images.path[number]}, confidence ${(sure / 1000).toFixed(3)}`;
    list.append(make("li", {}, thumb(number, 96, words), make("br"), (sure / 1000).toFixed(3)));
  }
  const next = from + MOST_AT_ONCE;
  if (next < there.length) {
    const more = make("button", { type: "button", class: "quiet" }, `${there.length - next} more`);
    more.addEventListener("click", () => {
      more.remove();
      show(list, body, there, next, count);
      list.children[next].querySelector("button").focus();
    });
    body.append(more);
  } else if (there.length < count) {
    body.append(make("p", { class: "small soft" }, `${count - there.length} of them have no picture in this file.`));
  }
}

function matrices() {
  for (const button of all("button[data-row]")) button.addEventListener("click", () => openCell(button));
  for (const table of all(".matrix")) table.addEventListener("keydown", event => walk(table, event));
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function walk(table, event) {
  const step = STEPS[event.key], from = event.target.closest("button");
  if (!step || !from) return;
  let [row, column] = [Number(from.dataset.row) + step[0], Number(from.dataset.column) + step[1]];
  while (row >= 0 && column >= 0 && row < table.tBodies[0].rows.length && column < table.tBodies[0].rows.length) {
    const button = find(`button[data-row="${row}"][data-column="${column}"]`, table);
    if (button) {
      button.focus();
      event.preventDefault();
      return;
    }
    [row, column] = [row + step[0], column + step[1]];
  }
}

/* Tabs: one model at a time. */

function tabs() {
  const list = find("[role=tablist]");
  if (!list) return;
  const buttons = all("[role=tab]", list);
  const choose = chosen => buttons.forEach(button => {
    button.setAttribute("aria-selected", String(button === chosen));
    button.tabIndex = button === chosen ? 0 : -1;
    document.getElementById(button.getAttribute("aria-controls")).hidden = button !== chosen;
  });
  buttons.forEach((button, at) => {
    button.addEventListener("click", () => choose(button));
    button.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const next = buttons[(at + step + buttons.length) % buttons.length];
      choose(next);
      next.focus();
    });
  });
  list.hidden = false;
  choose(buttons[0]);
}

/* The map. */

const REACH = 40; // of its thousand units, from the pointer to the dot it means
const stage = document.getElementById("plane");
const card = document.getElementById("card");
let shown = new Set(classes.keys()), current = -1;

function nearestDot(x, y, reach) {
  let best = -1, least = reach * reach;
  plane.number.forEach((number, at) => {
    if (!shown.has(images.label[number])) return;
    const distance = (plane.x[at] - x) ** 2 + (plane.y[at] - y) ** 2;
    if (distance < least) [best, least] = [at, distance];
  });
  return best;
}

function dotThatWay(from, [down, right]) {
  let best = -1, least = Infinity;
  plane.number.forEach((number, at) => {
    const dx = plane.x[at] - plane.x[from], dy = plane.y[at] - plane.y[from];
    const along = dx * right + dy * down, aside = Math.abs(dx * down) + Math.abs(dy * right);
    if (at === from || along <= 0 || aside > 2 * along || !shown.has(images.label[number])) return;
    if (along + 2 * aside < least) [best, least] = [at, along + 2 * aside];
  });
  return best;
}

function dotAfter(from, step) {
  const count = plane.number.length;
  for (let turn = 1; turn <= count; turn += 1) {
    const at = (from + step * turn + count) % count;
    if (shown.has(images.label[plane.number[at]])) return at;
  }
  return -1;
}

function pointAt(at, aloud) {
  current = at;
  const cursor = find(".cursor", stage);
  cursor.setAttribute("visibility", at < 0 ? "hidden" : "visible");
  card.hidden = at < 0;
  if (at < 0) return;
  const number = plane.number[at], unit = stage.clientWidth / 1000;
  cursor.setAttribute("cx", plane.x[at]);
  cursor.setAttribute("cy", plane.y[at]);
  const name = make("b", { class: "name" }, label(number));
  card.replaceChildren(sprite(number, 112), name, make("br"), make("span", { class: "path" }, images.path[number]));
  const left = plane.x[at] * unit + 14, top = plane.y[at] * unit + 14;
  card.style.left = `${Math.max(4, Math.min(left, stage.clientWidth - card.offsetWidth - 4))}px`;
  card.style.top = `${top + card.offsetHeight > stage.clientHeight ? top - card.offsetHeight - 28 : top}px`;
  if (aloud) document.getElementById("said").textContent = `${label(number)}, ${images.path[number]}`;
}

function choose(number) {
  const title = make("h3", { class: "chosen-title" }, "Chosen picture");
  document.getElementById("chosen").replaceChildren(title, sprite(number, 160), ...describe(number, choose));
}

function underPointer(event) {
  const box = stage.getBoundingClientRect(), unit = stage.clientWidth / 1000;
  return nearestDot((event.clientX - box.left) / unit, (event.clientY - box.top) / unit, REACH);
}

function map() {
  stage.style.setProperty("--dot", find("svg", stage).dataset.size);
  Object.entries({
    tabindex: "0", role: "application", "aria-label": "Map of the features", "aria-describedby": "plane-help",
  }).forEach(([name, value]) => stage.setAttribute(name, value));
  stage.addEventListener("pointermove", event => pointAt(underPointer(event)));
  stage.addEventListener("pointerleave", () => pointAt(-1));
  stage.addEventListener("click", event => {
    const at = underPointer(event);
    pointAt(at);
    if (at >= 0) choose(plane.number[at]);
  });
  stage.addEventListener("focus", () => {
    if (current < 0 && stage.matches(":focus-visible")) pointAt(nearestDot(500, 500, 2000), true);
  });
  stage.addEventListener("blur", () => pointAt(-1));
  stage.addEventListener("keydown", event => {
    if (event.key === "Escape") pointAt(-1);
    if (event.key === "Enter" && current >= 0) choose(plane.number[current]);
    const step = STEPS[event.key], page = { PageUp: -1, PageDown: 1 }[event.key];
    if (!step && !page) return;
    event.preventDefault();
    const next = current < 0 ? nearestDot(500, 500, 2000) : step ? dotThatWay(current, step) : dotAfter(current, page);
    if (next >= 0) pointAt(next, true);
  });
  if (known.first !== null) choose(known.first);
}

function highlight(chosen) {
  shown = new Set(chosen.length ? chosen : classes.keys());
  for (const path of all(".dots", stage)) path.classList.toggle("faded", !shown.has(Number(path.dataset.class)));
  for (const text of all("text", stage)) text.classList.toggle("off", !shown.has(Number(text.dataset.class)));
  for (const path of all(".rings, .cores", stage)) path.classList.toggle("faded", chosen.length > 0);
}

function legend() {
  const buttons = all("#legend button"), select = document.getElementById("class-select");
  buttons.forEach(button => button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    highlight(buttons.filter(one => one.getAttribute("aria-pressed") === "true").map(one => Number(one.dataset.class)));
  }));
  select?.addEventListener("change", () => highlight(select.value === "" ? [] : [Number(select.value)]));
}

/* Light and dark: the system's choice until the button is pressed. */

function theme() {
  const button = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  system.addEventListener("change", name);
  button.hidden = false;
  name();
}

function dialogs() {
  for (const dialog of all("dialog")) {
    dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
  }
}

function printing() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    opened.forEach(one => { one.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach(one => { one.open = false; }));
}

theme();
fill();
matrices();
tabs();
legend();
map();
dialogs();
printing();
