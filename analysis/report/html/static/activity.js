// Throughput and concurrency: bars of the part of time that is visible, computed from sums over time.

const STRETCHES = 240;

// Where the first number above `value` is in sorted numbers.
function above(numbers, value) {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= value) low = middle + 1; else high = middle;
  }
  return low;
}

// The sum up to each edge; between two points of `at` it grows evenly.
function sumsAt({ at, total }, edges) {
  let place = above(at, edges[0]);
  return edges.map((edge) => {
    while (place < at.length && at[place] <= edge) place++;
    if (place === 0) return total[0];
    if (place === at.length) return total[place - 1];
    const share = (edge - at[place - 1]) / (at[place] - at[place - 1]);
    return total[place - 1] + share * (total[place] - total[place - 1]);
  });
}

function written(lane, value) { return lane.bytes ? `${size(Math.round(value))}/s` : `${Number(value.toPrecision(2))} at once`; }

function drawActivity() {
  const range = model("time-activity");
  const [start, end] = [Math.max(range.start, 0), Math.min(range.end, data.duration)];
  const width = (end - start) / STRETCHES;
  if (!(width > 0)) return;
  const edges = Array.from({ length: STRETCHES + 1 }, (_, number) => start + number * width);
  const bars = { left: [], right: [], bottom: [], top: [], paint: [], what: [], how: [], caption: [], phase: [], token: [], file: [], fetch: [] };
  const names = new Map();
  data.activity.forEach((lane, place) => {
    const sums = sumsAt(lane, edges);
    const heights = edges.slice(1).map((_, number) => Math.max(sums[number + 1] - sums[number], 0) / width);
    const most = Math.max(...heights);
    names.set(place, most > 0 ? `${lane.name}, ≤ ${written(lane, most)}` : `${lane.name}, none`);
    heights.forEach((height, number) => {
      if (height <= most * 1e-9) return;
      bars.left.push(edges[number]);
      bars.right.push(edges[number + 1]);
      bars.bottom.push(place + 0.42);
      bars.top.push(place + 0.42 - (0.84 * height) / most);
      bars.paint.push(lane.paint);
      bars.what.push(`${lane.name}: ${written(lane, height)}`);
      bars.how.push(`mean of ${seconds(width)} at ${edges[number].toFixed(6)} s`);
      bars.caption.push("");
      for (const key of KEYS) bars[key].push(-1);
    });
  });
  const source = model("activity");
  columnsOf.delete(source);
  bars.meaning = bars.what.map(() => "");
  source.data = bars;
  doc.get_model_by_id(data.roots.activity).left[0].major_label_overrides = names;
  applyToPicture("activity");
}

function followActivity() {
  if (!data.roots.activity || !data.activity) return;
  const range = model("time-activity");
  let waiting = 0;
  const later = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => whenInView("activity", "bars", drawActivity)); };
  for (const name of ["start", "end"]) range.properties[name].change.connect(later);
}
