// Which rows are shown: values that are hidden or out of range, the search, and the selection.

// What a row is: filtered out, without what is searched for, not selected, or fully there.
const HIDDEN = 0;
const UNFOUND = 1;
const UNSELECTED = 2;
const ACTIVE = 3;

const filters = new Map(); // column's place -> { hidden: Set of codes } or { low, high } (a bound may be missing)
const selection = new Set(); // rows
let wanted = ""; // searched for, in lower case
let spotted = null; // { column, code } that the pointer or the focus is on in the legend
const state = new Uint8Array(ROWS);

/** Sets `state`; gives how many rows pass the filters and the search. */
function judge() {
  const tests = [...filters].map(([place, filter]) => tester(columns[place], filter));
  const found = wanted ? searched() : null;
  let passing = 0;
  for (let row = 0; row < ROWS; row++) {
    if (!tests.every((test) => test(row))) state[row] = HIDDEN;
    else if (found && !found[row]) state[row] = UNFOUND;
    else {
      passing++;
      state[row] = selection.size && !selection.has(row) ? UNSELECTED : ACTIVE;
    }
  }
  return passing;
}

function tester(column, filter) {
  if (filter.hidden) return (row) => !filter.hidden.has(column.codes[row]);
  const { low = -Infinity, high = Infinity } = filter;
  return (row) => column.values[row] >= low && column.values[row] <= high;
}

/** Rows in whose text or columns the words occur, whatever the case. */
function searched() {
  const found = new Uint8Array(ROWS);
  for (const column of columns) {
    if (column.type === "category") {
      const named = column.names.map((name) => name !== null && name.toLowerCase().includes(wanted));
      if (named.includes(true)) for (let row = 0; row < ROWS; row++) found[row] |= named[column.codes[row]];
    } else if (column.type === "text") {
      for (let row = 0; row < ROWS; row++) found[row] |= column.values[row]?.toLowerCase().includes(wanted) ?? 0;
    }
  }
  if (data.kind !== "text") return found;
  for (const [place, [start]] of data.pieces.entries()) {
    pieces[place]?.forEach((text, at) => {
      if (!found[start + at] && text?.toLowerCase().includes(wanted)) found[start + at] = 1;
    });
  }
  return found;
}

/** Hides a value or shows it again; a filter that hides nothing is none. */
function toggleValue(place, code) {
  const hidden = filters.get(place)?.hidden ?? new Set();
  if (!hidden.delete(code)) hidden.add(code);
  setHidden(place, hidden);
}

function setHidden(place, hidden) {
  if (hidden.size) filters.set(place, { hidden });
  else filters.delete(place);
}

/** Shows one value only, or all again where it was the only one. */
function onlyValue(place, code) {
  const { names } = columns[place];
  const others = new Set(names.keys());
  others.delete(code);
  const hidden = filters.get(place)?.hidden;
  const alone = hidden && hidden.size === others.size && !hidden.has(code);
  setHidden(place, alone ? new Set() : others);
}

function setRange(place, low, high) {
  if (low === undefined && high === undefined) filters.delete(place);
  else filters.set(place, { low, high });
}

function filterText(place) {
  const column = columns[place];
  const { hidden, low, high } = filters.get(place);
  if (!hidden) return `${column.name}: ${low ?? "…"} to ${high ?? "…"}`;
  const shown = column.names.length - hidden.size;
  if (shown !== 1) return `${column.name}: ${counted(hidden.size)} of ${counted(column.names.length)} hidden`;
  const code = column.names.findIndex((_, at) => !hidden.has(at));
  return `${column.name}: ${shortened(categoryText(column.names[code]), 30)}`;
}
