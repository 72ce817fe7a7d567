// The rows: coordinates and columns at once, texts, images and sounds piece by piece after the first picture.

const NUMBERS = { u1: Uint8Array, u2: Uint16Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

function numbers([kind, text]) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let place = 0; place < letters.length; place++) bytes[place] = letters.charCodeAt(place);
  return new NUMBERS[kind](bytes.buffer);
}

const read = (id) => JSON.parse(byId(id).textContent);

const data = read("data");
const ROWS = data.rows;

const STEPS_OF_AXIS = 65535;
const steps = data.points.map(({ at }) => numbers(at));
const span = Math.max(...data.points.map(({ low, high }) => high - low)) || 1;
const extent = data.points.map(({ low, high }) => (high - low) / span); // the larger one is 1
// Where the points are drawn: from 0 on, a unit as long on one axis as on the other, whatever the numbers are.
const [X, Y] = steps.map((all, axis) => Float64Array.from(all, (step) => (extent[axis] * step) / STEPS_OF_AXIS));

/** The coordinate of a row as it was given, in as many digits as are kept. */
function coordinate(axis, row) {
  const { low, high } = data.points[axis];
  return Number((low + ((high - low) * steps[axis][row]) / STEPS_OF_AXIS).toPrecision(6));
}

const columns = data.columns.map((column) => {
  if (column.type === "category") return { ...column, codes: numbers(column.codes) };
  return column.type === "number" ? { ...column, values: numbers(column.values) } : column;
});

/** The value of a row as a person reads it; empty where it is missing. */
function valueText(column, row) {
  if (column.type === "category") return column.names[column.codes[row]] ?? "";
  if (column.type === "number") return numberText(column.values[row]);
  return column.values[row] ?? "";
}

const categoryText = (name) => (name === null ? "(missing)" : name === "" ? "(empty)" : name);
const rowNumbers = data.numbers ? numbers(data.numbers) : null;
const rowNumber = (row) => (rowNumbers ? rowNumbers[row] : row);

/** How often each category occurs. */
function categoryCounts(column) {
  const counts = new Uint32Array(column.names.length);
  for (const code of column.codes) counts[code]++;
  return counts;
}

const pieces = data.pieces.map(() => null);
const content = {
  loaded: 0,
  complete: data.pieces.length === 0,
  /** The text or data URI of a row: null where there is none, undefined where it is not loaded yet. */
  of(row) {
    let place = data.pieces.length - 1;
    while (place >= 0 && data.pieces[place][0] > row) place--;
    return place < 0 ? null : pieces[place]?.[row - data.pieces[place][0]];
  },
};

/** Loads one piece after the other; `step` is called after each, and says what to do with one that does not come. */
async function loadContent(step) {
  globalThis.hftransferPiece = (place, rows) => (pieces[place] = rows);
  await new Promise((resolve) => setTimeout(resolve, 50)); // the points are painted first
  for (let place = 0; place < pieces.length; place++) {
    if (data.folder) await loadScript(`${data.folder}/${String(place).padStart(4, "0")}.js`);
    else {
      await new Promise((resolve) => setTimeout(resolve));
      pieces[place] = read(`piece-${place}`);
      byId(`piece-${place}`).remove();
    }
    content.loaded++;
    content.complete = content.loaded === pieces.length;
    step(pieces.some((piece, at) => at <= place && piece === null));
  }
}

function loadScript(source) {
  return new Promise((resolve) => {
    document.head.append(element("script", { src: source, onload: resolve, onerror: resolve }));
  });
}
