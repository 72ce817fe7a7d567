// Which colour and shape a point has. Colours are those of the report; where they end, another shape begins.

const SHAPES = ["circle", "rect", "triangle", "diamond"];
const LOOKS = data.palette.length * SHAPES.length; // then they begin anew
const NOTHING = new Set([null, "", "-1", "none", "noise"]); // of no cluster, or missing: grey
const BINS = 24; // of a continuous scale
// After viridis (Smith and van der Walt 2015), without the end that vanishes on the paper.
const SCALES = {
  light: ["#44bf70", "#21918c", "#31688e", "#443983", "#440154"],
  dark: ["#46639b", "#2c8f96", "#35b779", "#90d743", "#fde725"],
};

const isDark = () =>
  (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) ===
  "dark";
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** How the categories look, in their order: { color, shape }. What is of no cluster takes no colour away. */
function categoryLooks(column) {
  let next = 0;
  return column.names.map((name) => {
    if (NOTHING.has(name)) return { color: ink("grey"), shape: "circle" };
    const place = next++ % LOOKS;
    return { color: data.palette[place % data.palette.length], shape: SHAPES[Math.floor(place / data.palette.length)] };
  });
}

/** A continuous scale over the values, without the outermost hundredth where it would take most of the room. */
function scaleOf(column) {
  const sorted = Float64Array.from(column.values).filter(Number.isFinite).sort();
  if (!sorted.length) return { low: NaN, high: NaN, cut: false };
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const cut = at(1) - at(0) > 3 * (at(0.99) - at(0.01)) && at(0.99) > at(0.01);
  return cut ? { low: at(0.01), high: at(0.99), cut } : { low: at(0), high: at(1), cut };
}

/** The bin of a value, or -1 where it is missing. */
function binOf({ low, high }, value) {
  if (!Number.isFinite(value)) return -1;
  const share = high > low ? (value - low) / (high - low) : 0.5;
  return Math.min(BINS - 1, Math.max(0, Math.floor(share * BINS)));
}

function binColors() {
  const anchors = SCALES[isDark() ? "dark" : "light"].map((text) =>
    [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16)),
  );
  return Array.from({ length: BINS }, (_, bin) => {
    const at = (bin / (BINS - 1)) * (anchors.length - 1);
    const left = Math.min(Math.floor(at), anchors.length - 2);
    const mixed = anchors[left].map((value, part) => Math.round(value + (at - left) * (anchors[left + 1][part] - value)));
    return `rgb(${mixed.join(",")})`;
  });
}

/** For a column (or none): the look of each class, and the class of each row. */
function colouring(column) {
  const plain = { color: data.palette[0], shape: "circle" };
  if (!column || column.type === "text") return { looks: [plain], classes: new Uint8Array(ROWS) };
  if (column.type === "category") return { looks: categoryLooks(column), classes: column.codes };
  const scale = scaleOf(column);
  const grey = { color: ink("grey"), shape: "circle" };
  const looks = [...binColors().map((color) => ({ color, shape: "circle" })), grey];
  const classes = Uint8Array.from(column.values, (value) => {
    const bin = binOf(scale, value);
    return bin < 0 ? BINS : bin;
  });
  return { looks, classes, scale };
}
