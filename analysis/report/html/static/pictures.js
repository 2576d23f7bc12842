// What the pictures need beside the library: colours of the theme, labels that fit, keys.

function figures() { return Object.keys(data.roots).map((key) => [key, doc.get_model_by_id(data.roots[key])]); }

function paint() {
  const style = getComputedStyle(document.documentElement);
  const [ink, faint] = ["--ink", "--faint"].map((name) => style.getPropertyValue(name).trim());
  for (const [, plot] of figures()) {
    for (const axis of [...plot.below, ...plot.left]) {
      axis.setv({ axis_label_text_color: faint, major_label_text_color: ink, axis_line_color: faint, major_tick_line_color: faint,
        minor_tick_line_color: null, axis_label_text_font_style: "normal" });
    }
    for (const { glyph, data_source: source } of plot.renderers) if (source?.name?.endsWith("-values")) glyph.text_color = { value: ink };
    for (const grid of plot.center) if ("grid_line_color" in grid && grid.grid_line_color !== null) grid.grid_line_color = faint;
  }
}

function model(name) { return doc.get_model_by_name(name); }

function column(source, name) { return source.data[name] ?? source.data.get?.(name) ?? []; }

function luminance(colour) {
  const [red, green, blue] = [1, 3, 5].map((place) => (parseInt(colour.slice(place, place + 2), 16) / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

// Pictures out of view are brought up to date when they come into view: a zoom costs only what is in view.
const inView = new Set();
const due = {};

function whenInView(key, what, act) {
  if (inView.has(key)) act();
  else (due[key] ??= {})[what] = act;
}

function catchUp(keys) {
  for (const key of keys) {
    const acts = Object.values(due[key] ?? {});
    delete due[key];
    for (const act of acts) act();
  }
}

function watch() {
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) inView.add(target.dataset.key); else inView.delete(target.dataset.key);
    }
    catchUp(inView);
  });
  for (const place of document.querySelectorAll(".plot")) observer.observe(place);
}

// The pictures of time show the same stretch of it.
const TIMED = ["timeline", "activity", "waterfall", "heat"];

function zoomTime(start, end, from) {
  for (const key of TIMED) {
    const range = model(`time-${key}`);
    if (range && key !== from) whenInView(key, "time", () => { if (range.start !== start || range.end !== end) range.setv({ start, end }); });
  }
}

function followTime() {
  for (const key of TIMED) {
    const range = model(`time-${key}`);
    for (const name of ["start", "end"]) range?.properties[name].change.connect(() => queueMicrotask(() => zoomTime(range.start, range.end, key)));
  }
}

// On a phone the names of rows take no more room than they need.
function narrowAxes() {
  for (const [, plot] of figures()) {
    plot.min_border_left = 0;
    for (const axis of plot.left) axis.major_label_text_font_size = "10px";
  }
}

// The pictures of time begin at the same place, so that what is one below the other is at the same time.
function alignTime() {
  const plots = TIMED.filter((key) => data.roots[key]).map((key) => doc.get_model_by_id(data.roots[key]));
  const views = plots.map((plot) => Bokeh.index.roots.find((view) => view.model === plot));
  const left = Math.max(...views.map((view) => view?.frame.bbox.left ?? 0));
  if (left > 0 && !phone.matches) for (const plot of plots) plot.min_border_left = Math.ceil(left);
}

// Captions in rectangles: of the forms of a caption, one on each line, the longest that fits; else as much as fits of the last.
const LETTER = 7.2;
const SHORTEST = 10;

function fitting(caption, room, cut) {
  const most = Math.floor(room / LETTER);
  const forms = caption.split("\n");
  const longest = forms.find((form) => form.length <= most);
  if (longest !== undefined) return longest;
  return cut && most >= SHORTEST ? `${forms.at(-1).slice(0, most - 1)}…` : "";
}

function label(key, sources, labels, cut) {
  const plot = doc.get_model_by_id(data.roots[key]);
  const { start, end } = plot.x_range;
  const inner = plot.inner_width || document.getElementById(`plot-${key}`).clientWidth - 120;
  const scale = inner / (end - start);
  const texts = { left: [], middle: [], label: [], ink: [] };
  for (const source of sources) {
    const [left, right, bottom, top, caption, colour] = ["left", "right", "bottom", "top", "caption", "paint"].map((name) => column(source, name));
    for (let each = 0; each < left.length; each++) {
      if (!caption[each]) continue;
      const from = Math.max(left[each], start);
      const text = fitting(caption[each], (Math.min(right[each], end) - from) * scale - 8, cut);
      if (!text) continue;
      texts.left.push(from);
      texts.middle.push((bottom[each] + top[each]) / 2);
      texts.label.push(text);
      texts.ink.push(luminance(data.paints[colour[each]]) > 0.2 ? "#111111" : "#ffffff");
    }
  }
  labels.data = texts;
}

let labelling = 0;

function labelAll() {
  cancelAnimationFrame(labelling);
  labelling = requestAnimationFrame(() => {
    for (const [key] of figures()) {
      const labels = model(`${key}-labels`);
      if (!labels) continue;
      const sources = key === "flame" ? [model(`flame-${flameMode()}`)] : [model(key)];
      whenInView(key, "labels", () => label(key, sources, labels, key !== "phases"));
    }
  });
}

function flameMode() { return document.querySelector("#flame-mode input:checked").value; }

function rendererOf(name) {
  for (const [, plot] of figures()) for (const each of plot.renderers) if (each.data_source?.name === name) return each;
  return null;
}

function showFlame() {
  for (const { value: mode } of document.querySelectorAll("#flame-mode input")) rendererOf(`flame-${mode}`).visible = mode === flameMode();
  labelAll();
}

function showHeat(place) {
  const plot = doc.get_model_by_id(data.roots.heat);
  for (const each of plot.renderers) {
    const number = (each.data_source?.name ?? "").startsWith("heat-") ? each.data_source.name : each.name ?? "";
    each.visible = Number(number.split("-").at(-1)) === place;
  }
  plot.y_range.setv({ start: 0, end: data.heats[place].until });
  document.getElementById("heat-file").value = String(place);
}

// Keys on a picture; `cursor` is the mark that the arrow keys stand on.
const cursors = {};

function sourcesOf(key) {
  const plot = doc.get_model_by_id(data.roots[key]);
  return plot.renderers.filter((each) => each.visible && each.data_source?.name && column(each.data_source, "what").length).map((each) => each.data_source);
}

function step(key, forward) {
  const plot = doc.get_model_by_id(data.roots[key]);
  const marks = [];
  for (const source of sourcesOf(key)) {
    const [left, right, bottom] = ["left", "right", "bottom"].map((name) => column(source, name));
    for (let each = 0; each < left.length; each++) {
      if (right[each] >= plot.x_range.start && left[each] <= plot.x_range.end) marks.push([bottom[each], left[each], source, each]);
    }
  }
  if (!marks.length) return;
  marks.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const at = cursors[key];
  const here = marks.findIndex(([, , source, each]) => source === at?.source && each === at.index);
  const [, , source, index] = marks[here < 0 ? 0 : Math.min(Math.max(here + (forward ? 1 : -1), 0), marks.length - 1)];
  showCursor(key, source, index);
}

function showCursor(key, source, index) {
  cursors[key] = { source, index };
  const [left, right, bottom, top] = ["left", "right", "bottom", "top"].map((name) => column(source, name)[index]);
  model(`cursor-${key}`).setv({ left, right, bottom, top, visible: true });
  const meaning = data.meanings[column(source, "paint")[index]]?.[1];
  document.getElementById(`detail-${key}`).textContent = `${column(source, "what")[index]}: ${column(source, "how")[index]}${meaning ? `. ${meaning}` : ""}`;
}

function zoom(key, factor, shift) {
  const range = doc.get_model_by_id(data.roots[key]).x_range;
  const width = (range.end - range.start) * factor;
  const middle = (range.start + range.end) / 2 + shift * width;
  const bounds = range.bounds ?? [-Infinity, Infinity];
  const start = Math.max(bounds[0], middle - width / 2);
  range.setv({ start, end: Math.min(bounds[1], start + width) });
}

function pictureKey(event, key) {
  const moves = { ArrowLeft: [1, -0.2], ArrowRight: [1, 0.2], "+": [0.5, 0], "=": [0.5, 0], "-": [2, 0] };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (moves[event.key]) zoom(key, ...moves[event.key]);
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") step(key, event.key === "ArrowDown");
  else if (event.key === "Enter" && cursors[key]) chooseMark(cursors[key].source, cursors[key].index);
  else return;
  event.preventDefault();
}
