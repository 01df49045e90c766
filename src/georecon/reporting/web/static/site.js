// The page's behaviour: sort, filter, search, chains, figures, theme. Text only ever becomes text
// nodes; there is no innerHTML (the page's policy refuses it), no network and no dependency.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "click") node.addEventListener("click", value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

let saying;
function say(text) {
  $("said").textContent = text;
  clearTimeout(saying);
  saying = setTimeout(() => { $("said").textContent = ""; }, 2500);
}

// ---- theme ---------------------------------------------------------------------------------------
const THEMES = ["auto", "light", "dark"];
function remembered() {
  try { return localStorage.getItem("theme"); } catch { return null; }
}
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[theme];
  $("theme").setAttribute("aria-label", `Colours: ${theme}. Change.`);
}
$("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme;
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  setTheme(next);
  try { localStorage.setItem("theme", next); } catch { /* not remembered then */ }
});
setTheme(THEMES.includes(remembered()) ? remembered() : "auto");

// ---- sort ----------------------------------------------------------------------------------------
// A cell's sort key is data-value where it has one, its text otherwise; empty cells stay last.
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
function sortKey(row, column) {
  const cell = row.cells[column];
  if (!cell) return null;
  if (cell.dataset.value !== undefined) return cell.dataset.value === "" ? null : +cell.dataset.value;
  return cell.textContent.trim() || null;
}
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return collator.compare(String(a), String(b));
}
function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  if (direction === "none") rows.sort((a, b) => a.dataset.place - b.dataset.place);
  else {
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = rows.map((row) => [sortKey(row, column), row]);
    keyed.sort(([a, first], [b, second]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * compare(a, b) || first.dataset.place - second.dataset.place;
    });
    keyed.forEach(([, row], place) => { rows[place] = row; });
  }
  body.append(...rows);
}
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };
function makeSortable(table) {
  [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.place = place; });
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = el("button", { type: "button", title: "Sort by this column" });
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const direction = NEXT[head.getAttribute("aria-sort")];
      for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", direction);
      sortBy(table, column, direction);
      say(direction === "none" ? "Original order" : `Sorted, ${direction}`);
    });
  });
}

// ---- filter --------------------------------------------------------------------------------------
const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const words = (text) => plain(text).split(/\s+/).filter(Boolean);
function filterRows(table, query, count) {
  const wanted = words(query);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const text = plain(row.textContent);
    row.hidden = !wanted.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  count.textContent = wanted.length ? `${shown} of ${table.tBodies[0].rows.length} rows` : "";
}

// ---- rows to columns and back --------------------------------------------------------------------
function transpose(table) {
  const matrix = [...table.rows].map((row) => {
    row.hidden = false;
    return [...row.cells];
  });
  const flipped = matrix[0].map((_, column) => matrix.map((row) => row[column]));
  const asHead = (cell, scope) => {
    const label = cell.querySelector("button") || cell;
    const head = el("th", { scope, class: scope === "col" ? "num" : null });
    head.append(...label.childNodes);
    return head;
  };
  const corner = el("th", { scope: "col" });
  corner.append(...(matrix[0][0].querySelector("button") || matrix[0][0]).childNodes);
  const head = el("tr", {}, corner, ...flipped[0].slice(1).map((cell) => asHead(cell, "col")));
  const body = flipped.slice(1).map(
    (cells) => el("tr", {}, asHead(cells[0], "row"), ...cells.slice(1)));
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...body);
  makeSortable(table);
}

for (const table of document.querySelectorAll("table.sortable")) {
  makeSortable(table);
  const tools = document.querySelector(`[data-tools="${table.id}"]`);
  if (!tools) continue;
  const input = tools.querySelector("input");
  const count = tools.querySelector("[aria-live]");
  input.addEventListener("input", () => filterRows(table, input.value, count));
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !input.value) return;
    input.value = "";
    filterRows(table, "", count);
  });
  tools.querySelector(".transpose")?.addEventListener("click", () => {
    const original = [...table.tBodies[0].rows].sort((a, b) => a.dataset.place - b.dataset.place);
    table.tBodies[0].append(...original);
    input.value = "";
    count.textContent = "";
    transpose(table);
    say("Rows and columns swapped");
  });
}

// ---- wide tables fade out where they go on -------------------------------------------------------
function fade(box) {
  box.classList.toggle("more", box.scrollWidth - box.clientWidth - box.scrollLeft > 4);
}
const sizes = new ResizeObserver((changes) => changes.forEach((change) => fade(change.target)));
for (const box of document.querySelectorAll(".scroll")) {
  box.addEventListener("scroll", () => fade(box), { passive: true });
  sizes.observe(box);
}

// ---- copy ----------------------------------------------------------------------------------------
function fallbackCopy(text) {  // pages opened from disk may have no clipboard interface
  const area = el("textarea", { class: "hidden", "aria-hidden": "true" });
  area.value = text;
  (document.querySelector("dialog[open]") || document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
async function copy(text, what, button) {
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    done = fallbackCopy(text);
  }
  button.focus();
  button.textContent = done ? "Copied" : "Select and copy by hand";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
  say(done ? `Copied: ${what}` : "The browser refused to copy");
}
function copyButton(text, what) {
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy ${what}` }, "Copy");
  button.addEventListener("click", () => copy(text, what, button));
  return button;
}
const command = (text, what) =>
  el("div", { class: "command" }, el("pre", { tabindex: "0" }, text), copyButton(text, what));

// ---- chains --------------------------------------------------------------------------------------
function facts(pairs) {
  const list = el("dl", { class: "facts" });
  for (const [name, value] of pairs) list.append(el("dt", {}, name), el("dd", {}, String(value)));
  return list;
}
function settings(run) {
  return el("details", {}, el("summary", {}, "Resolved configuration"),
    el("pre", { tabindex: "0" }, JSON.stringify(run.settings, null, 2)));
}
function modelCard(run) {
  if (!run.card) return null;
  return el("details", {}, el("summary", {}, "Model card"),
    el("pre", { tabindex: "0" }, run.card), copyButton(run.card, `model card of ${run.name}`));
}
// Held-out score by step, on a logarithmic scale where all scores are positive.
function curve(points) {
  if (points.length < 2) return null;
  const scores = points.map(([, score]) => score);
  const low = Math.min(...scores), high = Math.max(...scores);
  const height = low > 0 ? Math.log : (score) => score;
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const span = height(high) - height(low) || 1;
  const place = ([step, score]) => `${(300 * (step - first) / (last - first || 1)).toFixed(1)},` +
    `${(60 - 60 * (height(score) - height(low)) / span).toFixed(1)}`;
  const svg = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const words = `Held-out score, step ${first} to ${last}: ${scores[0]} to ${scores.at(-1)}, ` +
    `lowest ${low}, highest ${high}`;
  const picture = svg("svg", { viewBox: "-2 -2 304 64", class: "curve", role: "img", "aria-label": words });
  picture.append(svg("polyline", { points: points.map(place).join(" ") }));
  return el("div", { class: "held-out" }, picture, el("p", { class: "muted" }, words));
}
function linkCard(link) {
  const run = link.run === null ? null : data.runs[link.run];
  const name = link.href === null ? link.path : el("a", { href: link.href }, link.path);
  const card = el("div", { class: "link" }, el("p", { class: "path" }, name));
  if (link.sha256) {
    card.append(el("p", {}, el("span", { class: "sha" }, `sha256 ${link.sha256}`), " ",
      copyButton(link.sha256, `sha256 of ${link.path}`)));
  }
  if (run) card.append(...[curve(run.curve), facts(run.facts), settings(run)].filter(Boolean));
  else if (link.facts.length) card.append(facts(link.facts));
  return card;
}
function chainList(stations) {
  const list = el("ol", { class: "chain" });
  for (const [title, ids] of stations) {
    const cards = ids.map((id) => linkCard(data.links[id]));
    list.append(el("li", {}, ...(title === data.other
      ? [el("details", {}, el("summary", {}, `${title} (${ids.length})`), ...cards)]
      : [el("h3", {}, title), ...cards])));
  }
  return list;
}
function checkCommand(stations) {
  const ids = [...new Set(stations.flatMap(([, own]) => own))];
  const lines = ids.map((id) => data.links[id]).filter((link) => link.sha256)
    .map((link) => `${link.sha256}  ${link.path}`);
  return `sha256sum -c <<'END'\n${lines.join("\n")}\nEND`;
}
function verdictLine(cell) {
  if (!cell.verdict) return null;
  const name = cell.verdict.verdict;
  const line = el("p", {}, "Audit: ",
    el("span", { class: `badge ${name.replaceAll(" ", "-")}` }, data.marks[name] || name));
  if (cell.verdict.reason) line.append(` – ${cell.verdict.reason}`);
  return line;
}
function cellBody(key, cell) {
  const body = [el("p", { class: "value" }, cell.text, cell.unit ? ` ${cell.unit}` : "")];
  if (cell.reason) body.push(el("p", { class: "note" }, `Empty: ${cell.reason}.`));
  const seeds = Object.entries(cell.values);
  if (seeds.length) {
    body.push(el("p", { class: "muted" }, "By seed: ",
      seeds.map(([seed, value]) => `${seed}: ${value}`).join("; ")));
  }
  body.push(verdictLine(cell));
  if (cell.rerun) {
    body.push(el("h3", {}, "Make just this number again"), command(cell.rerun, "rerun command"));
  }
  if (cell.chain.length) {
    body.push(el("h3", {}, "Check every file of this chain now"),
      command(checkCommand(cell.chain), "check command"),
      el("h3", {}, "From the number to the raw file"), chainList(cell.chain));
  }
  return body.filter(Boolean);
}
function openCell(key) {
  const cell = data.cells[key];
  if (!cell) return false;
  show($("chain"), `${cell.title}: ${cell.row} › ${cell.column}`, cellBody(key, cell));
  return true;
}
function openRun(number) {
  const run = data.runs[number];
  if (!run) return false;
  const used = Object.entries(data.cells).filter(([, cell]) => cell.runs.includes(number));
  show($("chain"), run.name, [
    ...[curve(run.curve), facts(run.facts), settings(run), modelCard(run)].filter(Boolean),
    el("h3", {}, "Files read"), ...run.inputs.map((id) => linkCard(data.links[id])),
    el("h3", {}, "Files written"), ...run.outputs.map((id) => linkCard(data.links[id])),
    el("h3", {}, `Numbers made from this run: ${used.length}`),
    el("ul", {}, ...used.map(([key, cell]) => el("li", {},
      el("a", { href: `#/cell/${key}` }, `${cell.title}: ${cell.row} › ${cell.column}`)))),
  ]);
  return true;
}
function show(dialog, title, body) {
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector(".body").replaceChildren(...body);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  dialog.querySelector("h2").focus();
}

// ---- figures -------------------------------------------------------------------------------------
let scale = 1;
function zoom(factor) {
  const canvas = document.querySelector(".canvas");
  const picture = $("picture");
  scale = factor === 0 ? 1 : Math.min(8, Math.max(.5, scale * factor));
  const ratio = picture.dataset.width / picture.dataset.height;
  const width = Math.min(canvas.clientWidth, canvas.clientHeight * ratio) * scale;
  picture.width = Math.round(width);
  picture.height = Math.round(width / ratio);
  $("scale").textContent = `${Math.round(scale * 100)} %`;
}
function openFigure(name) {
  const figure = data.figures[name];
  if (!figure) return false;
  const picture = $("picture");
  picture.src = figure.png;
  picture.alt = figure.title;
  picture.dataset.width = figure.width;
  picture.dataset.height = figure.height;
  $("figure").querySelector("h2").textContent = figure.title;
  if (!$("figure").open) $("figure").showModal();
  zoom(0);
  $("figure").querySelector(".canvas").focus();
  return true;
}
for (const button of document.querySelectorAll("[data-zoom]")) {
  button.addEventListener("click", () => zoom(+button.dataset.zoom));
}
$("figure").addEventListener("keydown", (event) => {
  const factor = { "+": 1.25, "=": 1.25, "-": .8, "0": 0 }[event.key];
  if (factor === undefined || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  zoom(factor);
});
document.querySelector(".canvas").addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoom(event.deltaY < 0 ? 1.1 : 1 / 1.1);
}, { passive: false });
window.addEventListener("resize", () => { if ($("figure").open) zoom(1); });

// ---- addresses: #/cell/<table>/<row>/<column>, #/run/<number>, #/figure/<name> ---------------------
const OPENERS = {
  cell: (rest) => openCell(rest.join("/")),
  run: (rest) => openRun(+rest[0]),
  figure: (rest) => openFigure(decodeURIComponent(rest[0])),
};
const DIALOGS = { cell: "chain", run: "chain", figure: "figure" };
let depth = 0;  // how many addresses of dialogs lie between the page itself and this one
function wantedDialog() {
  return location.hash.startsWith("#/") ? DIALOGS[location.hash.slice(2).split("/")[0]] : undefined;
}
function route() {
  const wanted = wantedDialog();
  for (const dialog of document.querySelectorAll("dialog")) {
    if (dialog.id !== wanted && dialog.open) dialog.close();
  }
  if (!wanted) return;
  const [kind, ...rest] = location.hash.slice(2).split("/");
  if (!OPENERS[kind](rest)) {
    show($("chain"), "Nothing here", [el("p", {}, `This report has no ${location.hash}.`)]);
  }
}
function leave() {
  if (depth > 0) history.go(-depth);
  else location.hash = "#top";
}
let opener = null;  // what had the focus before the first dialog; it gets it back
window.addEventListener("hashchange", () => {
  if (wantedDialog()) opener ||= document.activeElement;
  if (!wantedDialog()) depth = 0;
  else if (history.state === null) history.replaceState({ depth: depth += 1 }, "");
  else depth = history.state.depth;
  route();
  if (wantedDialog() || !opener) return;
  opener.focus({ preventScroll: true });
  opener = null;
});
for (const dialog of document.querySelectorAll("dialog")) {
  // Escape closes a dialog without asking; its address must then go as well
  dialog.addEventListener("close", () => { if (wantedDialog() === dialog.id) leave(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
}

// ---- search --------------------------------------------------------------------------------------
let entries = null;
function index() {
  const cells = Object.entries(data.cells).map(([key, cell]) => ({
    kind: "number", href: `#/cell/${key}`, text: `${cell.title}: ${cell.row} › ${cell.column}`,
    note: `${cell.text}${cell.unit ? ` ${cell.unit}` : ""}`, more: key,
  }));
  const runs = data.runs.map((run, number) => (
    { kind: "run", href: `#/run/${number}`, text: run.name, note: run.path, more: "" }));
  return [...data.places, ...cells, ...runs].map((entry) => (
    { ...entry, plain: plain(`${entry.kind} ${entry.text} ${entry.note} ${entry.more}`) }));
}
const LIMIT = 40;
function search() {
  const wanted = words($("query").value);
  $("found").hidden = wanted.length === 0;
  if (!wanted.length) return;
  entries = entries || index();
  const hits = entries.filter((entry) => wanted.every((word) => entry.plain.includes(word)));
  const more = hits.length > LIMIT ? `, the first ${LIMIT} shown` : "";
  $("found").replaceChildren(
    el("p", {}, hits.length ? `${hits.length} found${more}` : "Nothing found"),
    el("ul", {}, ...hits.slice(0, LIMIT).map((entry) => el("li", {},
      el("a", { href: entry.href }, el("span", { class: "kind" }, `${entry.kind} `), entry.text,
        el("span", { class: "kind" }, entry.note ? ` ${entry.note}` : ""))))));
}
$("query").addEventListener("input", search);
$("query").addEventListener("focus", search);
document.querySelector(".search").addEventListener("keydown", (event) => {
  const links = [...$("found").querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  if (event.key === "Escape") {
    $("query").value = "";
    $("query").focus();
    search();
  } else if (event.key === "ArrowDown" && links.length) {
    event.preventDefault();
    links[Math.min(at + 1, links.length - 1)].focus();
  } else if (event.key === "ArrowUp" && at >= 0) {
    event.preventDefault();
    (links[at - 1] || $("query")).focus();
  } else if (event.key === "Enter" && at < 0 && links.length) {
    links[0].click();
  }
});
document.addEventListener("click", (event) => {
  const inside = event.target.closest(".search");
  if (!inside || event.target.closest("#found a")) $("found").hidden = true;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input, textarea")) return;
  if (document.querySelector("dialog[open]")) return;
  event.preventDefault();
  $("query").focus();
});

if (wantedDialog()) {
  if (history.state === null) history.replaceState({ depth: 0 }, "");
  depth = history.state.depth;
  route();
}
