// What is chosen: in the address, in the chips, in every picture and table.

const KEYS = ["phase", "token", "file", "fetch"];
let chosen = {};
const off = new Set();
let applying = false;

function named(key, number) {
  if (key === "phase") return data.phases[number];
  return key === "file" ? data.files[number] : String(number);
}

function numbered(key, name) {
  const names = { phase: data.phases, file: data.files }[key];
  const number = names ? names.indexOf(name) : /^\d+$/.test(name) ? Number(name) : -1;
  return number >= 0 && (names || number < data.spans[key].length) ? number : null;
}

function readAddress() {
  const choice = {};
  for (const [key, name] of new URLSearchParams(location.hash.slice(1))) {
    if (!KEYS.includes(key)) continue;
    const number = numbered(key, name);
    if (number !== null) choice[key] = number;
  }
  return choice;
}

function writeAddress() {
  const words = KEYS.filter((key) => key in chosen).map((key) => `${key}=${encodeURIComponent(named(key, chosen[key]))}`);
  history.replaceState(null, "", words.length ? `#${words.join("&")}` : location.pathname + location.search);
}

// What follows from a choice, for pictures that do not know of it: a token is of a phase, a fetch was for a file.
function implied(key, number) {
  if (key === "token") return { phase: data.phases.indexOf("decode") };
  if (key !== "fetch") return {};
  return Object.fromEntries(["phase", "token", "file"].map((each) => [each, data.fetches[each][number]]).filter(([, value]) => value >= 0));
}

// What is typed into the search box, in lower case.
let searched = "";
let matchShown = -1;

// The marks that stand on the axis of time and match, in the order of time.
function matches() {
  const marks = [];
  if (!searched || !data.roots.timeline) return marks;
  for (const source of sourcesOf("timeline")) {
    const [left, right, what] = ["left", "right", "what"].map((name) => column(source, name));
    for (let each = 0; each < what.length; each++) if (what[each].toLowerCase().includes(searched)) marks.push([left[each], right[each], source, each]);
  }
  return marks.sort((a, b) => a[0] - b[0]);
}

function search(text) {
  searched = text.trim().toLowerCase();
  matchShown = -1;
  const count = matches().length;
  const inTimeline = data.roots.timeline ? `${count.toLocaleString("en")} in the timeline${count ? " (Enter: next)" : ""}, ` : "";
  const inTables = searchTables();
  document.getElementById("matches").textContent = searched ? `${inTimeline}${inTables.toLocaleString("en")} in tables` : "";
  applyToPictures();
  applyToTables();
}

// What a row of a table is searched by: its texts, and the phase, token, file and fetch that it belongs to.
function searchable(spec) {
  return spec.searchable ??= spec.columns[0].values.map((_, row) => {
    const texts = spec.columns.filter(({ unit }) => unit === "text").map(({ values }) => values[row]);
    const belongs = Object.entries(spec.links).filter(([, numbers]) => numbers[row] >= 0)
      .map(([key, numbers]) => (key === "token" || key === "fetch" ? `${key} ${numbers[row]}` : named(key, numbers[row])));
    return [...texts, ...belongs].join("\n").toLowerCase();
  });
}

function rowMatches(spec, row) { return !searched || searchable(spec)[row].includes(searched); }

// Writes beside the heading of each table how many of its rows match; returns how many do in all.
function searchTables() {
  let all = 0;
  for (const details of document.querySelectorAll("details.table")) {
    const summary = details.querySelector("summary");
    summary.querySelector(".matching")?.remove();
    if (!searched) continue;
    const spec = data.tables.find((each) => each.key === details.dataset.table);
    const count = spec.columns[0].values.reduce((total, _, row) => total + Number(rowMatches(spec, row)), 0);
    all += count;
    if (count) summary.append(element("span", { className: "matching", textContent: `${count.toLocaleString("en")} matching row${count === 1 ? "" : "s"}` }));
  }
  return all;
}

// Goes to the next match, or to the one before: zooms to it, and says what it is.
function nextMatch(forward) {
  const all = matches();
  if (!all.length) return;
  matchShown = (matchShown + (forward ? 1 : -1) + all.length) % all.length;
  const [left, right, source, index] = all[matchShown];
  const width = Math.max((right - left) * 6, data.duration / 200);
  const middle = (left + right) / 2;
  zoomTime(Math.max(model("time-timeline").bounds[0], middle - width / 2), middle + width / 2);
  showCursor("timeline", source, index);
  document.getElementById("matches").textContent = `${matchShown + 1} of ${all.length.toLocaleString("en")}: ${column(source, "what")[index]}`;
}

// Returns the conditions on a set of link columns: [column, number] each.
function conditions(known) {
  const wanted = {};
  for (const key of KEYS) {
    if (!(key in chosen)) continue;
    if (known[key]) { wanted[key] = chosen[key]; continue; }
    const follows = implied(key, chosen[key]);
    for (const each of ["token", "file", "phase"]) {
      if (each in follows && known[each]) { wanted[each] ??= follows[each]; break; }
    }
  }
  return Object.entries(wanted).map(([key, number]) => [known[key], number]);
}

const columnsOf = new Map();

function linksOf(source) {
  if (!columnsOf.has(source)) {
    const known = {};
    for (const key of KEYS) {
      const values = column(source, key);
      if (values.some((value) => value >= 0)) known[key] = values;
    }
    columnsOf.set(source, known);
  }
  return columnsOf.get(source);
}

// Marks of time that stand for several may be of several tokens: those in the middle of a token's time are taken for its own.
function duringToken(source) {
  const span = data.spans.token[chosen.token];
  if (!span || !/^(timeline|events|evidence|heat)/.test(source.name)) return () => false;
  const [left, right, token] = ["left", "right", "token"].map((name) => column(source, name));
  return (each) => token[each] < 0 && left[each] + right[each] >= 2 * span[0] && left[each] + right[each] <= 2 * span[1];
}

function applyToSource(source) {
  const wanted = conditions(linksOf(source));
  const during = duringToken(source);
  const tokens = linksOf(source).token;
  const colours = column(source, "paint");
  const words = searched ? column(source, "what") : [];
  const indices = [];
  if (wanted.length || off.size || searched) {
    for (let each = 0; each < colours.length; each++) {
      if (searched && !words[each].toLowerCase().includes(searched)) continue;
      if (!off.has(colours[each]) && wanted.every(([values, number]) => values[each] === number || (values === tokens && during(each)))) indices.push(each);
    }
  }
  source.selected.indices = indices.length === colours.length ? [] : indices;
  return indices.length > 0 || !(wanted.length || off.size || searched);
}

function applyToPicture(key) {
  applying = true;
  const matched = sourcesOf(key).map(applyToSource);
  applying = false;
  document.getElementById(`plot-${key}`).classList.toggle("none", matched.length > 0 && !matched.some(Boolean));
}

function applyToPictures() { for (const [key] of figures()) whenInView(key, "choice", () => applyToPicture(key)); }

function applyToTables() {
  for (const table of tables) {
    const { links } = table.spec;
    const key = table.linkKey;
    const further = Object.fromEntries(Object.entries(links).filter(([each]) => each !== key));
    const wanted = key && key in chosen ? [] : conditions(further);
    table.matches = (row) => wanted.every(([values, number]) => values[row] === number) && rowMatches(table.spec, row);
    table.isChosen = (row) => key in chosen && links[key][row] === chosen[key];
    table.draw();
  }
}

function zoomToChosen() {
  const key = ["fetch", "token", "phase"].find((each) => each in chosen && data.spans[each][chosen[each]]?.length);
  const time = model("time-timeline");
  if (!time) return;
  const [low, high] = time.bounds;
  if (!key) { if (!Object.keys(chosen).length) zoomTime(low, high); return; }
  const [start, end] = data.spans[key][chosen[key]];
  const margin = Math.max((end - start) * 0.08, data.duration * 1e-6);
  zoomTime(Math.max(low, start - margin), Math.min(high, end + margin));
}

function showChips() {
  const place = document.getElementById("chosen");
  const chips = KEYS.filter((key) => key in chosen).map((key) => {
    const name = named(key, chosen[key]);
    const chip = element("button", { type: "button", className: "chip", textContent: `${key}: ${name.length > 90 ? `…${name.slice(-90)}` : name} ✕`, title: "Remove" });
    chip.addEventListener("click", () => { const { [key]: _, ...rest } = chosen; choose(rest); });
    return chip;
  });
  if (!hint) hint = place.firstElementChild;
  place.replaceChildren(...(chips.length ? chips : [hint]));
}

let hint = null;

function choose(next, { write = true, zoomTo = true } = {}) {
  chosen = next;
  if (write) writeAddress();
  showChips();
  if ("file" in chosen) {
    const place = data.heats.findIndex((heat) => heat.file === chosen.file);
    if (place >= 0) showHeat(place);
  }
  applyToPictures();
  applyToTables();
  if (zoomTo) zoomToChosen();
  if (!Object.keys(chosen).length) for (const [key] of figures()) model(`cursor-${key}`).visible = false;
}

// A mark stands for the most particular thing it knows, in the picture it is in.
const PREFERENCE = { phases: ["phase"], tokens: ["token"], waterfall: ["fetch"], heat: ["fetch", "token", "phase"] };

function chooseMark(source, index) {
  const value = (key) => column(source, key)[index] ?? -1;
  const kind = source.name.split("-")[0];
  if (kind === "flame") {
    choose(Object.fromEntries(["phase", "file"].filter((key) => value(key) >= 0).map((key) => [key, value(key)])));
    doc.get_model_by_id(data.roots.flame).x_range.setv({ start: column(source, "left")[index], end: column(source, "right")[index] });
    return;
  }
  const key = (PREFERENCE[kind] ?? ["fetch", "token", "file", "phase"]).find((each) => value(each) >= 0);
  choose(key ? { [key]: value(key) } : {});
}

function chooseRow(spec, row) {
  const rowOf = { phases: "phase", tokens: "token", files: "file", fetches: "fetch" }[spec.key];
  const keys = rowOf ? [rowOf] : ["fetch", "token", "file", "phase"];
  const key = keys.find((each) => spec.links[each]?.[row] >= 0);
  const next = key ? { [key]: spec.links[key][row] } : {};
  choose(key && chosen[key] === next[key] ? {} : next);
}
