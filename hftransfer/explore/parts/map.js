// The map: ECharts draws it, zooms it and lets a lasso be drawn; what is under the pointer is found here.

const SLICES = 4; // a colour's points lie in so many layers between the other colours', or the last colour would hide all
const DEEPEST = 1; // per cent of the map that may fill the screen
const ROOM = 1.1; // of the points' extent
const TOOLS = 48; // pixels on the right under the buttons
const REACH = 14; // pixels from the pointer to a point

const canvas = byId("canvas");
const chart = echarts.init(canvas, null, { renderer: "canvas" });
const map = { lasso: false, words: true, size: 0, hovered: -1 };

/** The map's part on the screen, in data coordinates, and its size in pixels. */
function frame() {
  const [width, height] = [chart.getWidth(), chart.getHeight()];
  const [left, top] = chart.convertFromPixel({ gridIndex: 0 }, [0, 0]);
  const [right, bottom] = chart.convertFromPixel({ gridIndex: 0 }, [width, height]);
  return { left, right, top, bottom, width, height };
}

function pixelOf(row, { left, right, top, bottom, width, height } = frame()) {
  return [((X[row] - left) / (right - left)) * width, ((Y[row] - top) / (bottom - top)) * height];
}

/** Ends of both axes such that a unit is as long on one as on the other, with room around the points. */
function extents() {
  const [width, height] = [Math.max(chart.getWidth(), 2 * TOOLS), Math.max(chart.getHeight(), 1)];
  const unit = Math.max(extent[0] / (width - TOOLS), extent[1] / height) * ROOM || 1 / width;
  const around = (length, pixels, beyond) => {
    const min = length / 2 - (unit * (pixels - beyond)) / 2;
    return { min, max: min + unit * pixels };
  };
  return { x: around(extent[0], width, TOOLS), y: around(extent[1], height, 0) };
}

function setAxes() {
  const axis = (ends) => ({ type: "value", show: false, ...ends });
  const { x, y } = extents();
  chart.setOption({ xAxis: axis(x), yAxis: axis(y) });
}

function beginMap() {
  const zoom = { type: "inside", filterMode: "none", throttle: 0, minSpan: DEEPEST };
  chart.setOption({
    animation: false,
    stateAnimation: { duration: 0 },
    grid: { left: 0, right: 0, top: 0, bottom: 0, outerBoundsMode: "none" },
    xAxis: { type: "value", show: false },
    yAxis: { type: "value", show: false },
    dataZoom: [{ ...zoom, xAxisIndex: 0 }, { ...zoom, yAxisIndex: 0 }],
    brush: { xAxisIndex: 0, yAxisIndex: 0, seriesIndex: [], brushStyle: lassoStyle(), outOfBrush: {}, inBrush: {} },
    series: [],
  });
  setAxes();
}

const lassoStyle = () => ({ color: "rgba(127,137,148,0.15)", borderColor: ink("accent"), borderWidth: 1.5 });

function pointSize() {
  const shown = Math.max(state.reduce((sum, is) => sum + (is === ACTIVE), 0), ROWS / 8, 1);
  const { left, right } = frame();
  const { x } = extents();
  const zoom = (x.max - x.min) / (right - left);
  const screen = Math.min(1, Math.max(0.7, Math.sqrt(chart.getWidth() * chart.getHeight()) / 760));
  return Math.min(14, Math.max(2, Math.min(10, 36 / shown ** 0.235) * screen * zoom ** 0.35));
}

/** Draws all rows by their state and their colour. */
function drawMap({ looks: all, classes }) {
  const looks = [...new Map(all.map((look) => [look.color + look.shape, look])).values()];
  const lookOf = all.map(({ color, shape }) => looks.findIndex((look) => look.color === color && look.shape === shape));
  const size = pointSize();
  map.size = size;
  const pale = looks.length * SLICES;
  const layer = (row) => {
    if (state[row] === HIDDEN) return -1;
    if (state[row] !== ACTIVE || (spotted && spotted.column.codes[row] !== spotted.code)) return pale;
    return ((Math.imul(row + 1, 0x9e3779b1) >>> 30) & (SLICES - 1)) * looks.length + lookOf[classes[row]];
  };
  const layers = Int32Array.from({ length: ROWS }, (_, row) => layer(row));
  const counts = new Uint32Array(pale + 1);
  for (const at of layers) if (at >= 0) counts[at]++;
  const points = Array.from(counts, (count) => new Float64Array(2 * count));
  counts.fill(0);
  layers.forEach((at, row) => {
    if (at < 0) return;
    points[at][counts[at]++] = X[row];
    points[at][counts[at]++] = Y[row];
  });
  const outline = size >= 5 ? { borderColor: ink("map"), borderWidth: 0.8 } : {};
  const series = points.map((flat, at) => {
    const look = at === pale ? { color: ink("context"), shape: "circle" } : looks[at % looks.length];
    return cloud(`layer-${at}`, flat, look, at === pale ? size * 0.8 : size, {
      ...(at === pale ? {} : outline),
      opacity: at === pale ? 0.6 : size < 4 ? 0.65 : 0.85,
    }, at === pale ? 1 : 2);
  });
  const drawn = series.filter((one) => one.data.length);
  chart.setOption({ series: [...drawn, wordSeries()] }, { replaceMerge: ["series"] });
}

function cloud(id, flat, { color, shape }, size, style, z) {
  return {
    id, z, type: "scatter", data: flat, dimensions: ["x", "y"], symbol: shape,
    symbolSize: shape === "circle" || size < 4 ? size : size * (shape === "rect" ? 0.88 : 1.15),
    large: true, largeThreshold: 0, progressive: 0, clip: false, silent: true,
    itemStyle: { color, ...style },
  };
}

/** The row under the pointer, or -1: the nearest that is drawn in its colour. */
function rowAt(x, y, reach = REACH) {
  const seen = frame();
  const dataX = seen.left + (x / seen.width) * (seen.right - seen.left);
  const dataY = seen.top + (y / seen.height) * (seen.bottom - seen.top);
  const unit = (seen.right - seen.left) / seen.width;
  let [best, nearest] = [-1, (reach * unit) ** 2];
  for (let row = 0; row < ROWS; row++) {
    if (state[row] < UNSELECTED) continue;
    const distance = (X[row] - dataX) ** 2 + (Y[row] - dataY) ** 2;
    if (distance <= nearest) [best, nearest] = [row, distance];
  }
  return best;
}

/** The nearest row in a direction, within 45 degrees of it where there is one; rows at one place one after the other. */
function rowBeyond(from, [stepX, stepY]) {
  const forward = stepX - stepY > 0;
  let [best, least] = [-1, Infinity];
  for (let row = 0; row < ROWS; row++) {
    if (state[row] < UNSELECTED || row === from) continue;
    const [dx, dy] = [X[row] - X[from], Y[row] - Y[from]];
    const along = dx * stepX + dy * stepY;
    const across = Math.abs(dx * stepY) + Math.abs(dy * stepX);
    if (along < 0 || (along === 0 && (across > 0 || row > from !== forward))) continue;
    const distance = Math.hypot(dx, dy) * (across > along ? 8 : 1);
    if (distance < least || (distance === least && !forward)) [best, least] = [row, distance];
  }
  return best;
}

function within(polygon, x, y) {
  let inside = false;
  for (let at = 0, before = polygon.length - 1; at < polygon.length; before = at++) {
    const [[x1, y1], [x2, y2]] = [polygon[at], polygon[before]];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}

/** Rows inside a polygon of pixels. */
function rowsWithin(polygon) {
  const seen = frame();
  const found = [];
  for (let row = 0; row < ROWS; row++) {
    if (state[row] >= UNSELECTED && within(polygon, ...pixelOf(row, seen))) found.push(row);
  }
  return found;
}

function useLasso(on) {
  map.lasso = on;
  chart.dispatchAction({
    type: "takeGlobalCursor", key: "brush", brushOption: { brushType: on && "polygon", brushMode: "single" },
  });
  byId("lasso").setAttribute("aria-pressed", on);
  byId("pan").setAttribute("aria-pressed", !on);
  canvas.classList.toggle("drawing", on);
}

/** Shows a window of the map given by its middle (data coordinates) and its share of the whole. */
function showWindow(x, y, share) {
  const whole = extents();
  const span = Math.min(100, Math.max(DEEPEST, 100 * share));
  const batch = [[x, whole.x], [y, whole.y]].map(([middle, { min, max }], dataZoomIndex) => {
    const start = Math.min(100 - span, Math.max(0, (100 * (middle - min)) / (max - min) - span / 2));
    return { dataZoomIndex, start, end: start + span };
  });
  chart.dispatchAction({ type: "dataZoom", batch });
}

function zoomBy(factor, middle) {
  const { left, right, top, bottom } = frame();
  const { x } = extents();
  const share = (right - left) / (x.max - x.min) / factor;
  showWindow(...(middle ?? [(left + right) / 2, (top + bottom) / 2]), share);
}

/** Moves the map where a row is outside of what is seen. */
function bringIntoView(row) {
  const seen = frame();
  const [x, y] = pixelOf(row, seen);
  if (x < 0 || y < 0 || x > seen.width || y > seen.height) zoomBy(1, [X[row], Y[row]]);
}
