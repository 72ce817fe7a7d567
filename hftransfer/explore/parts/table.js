// The rows of the selection, or all that are shown, a page at a time.

const PAGE = 50;
const CELL = 140; // characters of a cell
const SHORT_CELL = 26; // characters that stay on one line
const table = { rows: [], page: 0, sorted: null, falling: false };

function setRows(rows) {
  table.rows = rows;
  table.page = 0;
  sortRows();
  drawTable();
}

const isNumber = (column) => column !== null && column.type === "number";

/** Sorts by a column, or back to the order of the data; missing values come last. */
function sortRows() {
  const column = table.sorted;
  table.rows.sort((a, b) => a - b);
  if (!column) return;
  const sign = table.falling ? -1 : 1;
  const value = isNumber(column) ? (row) => column.values[row]
    : column.type === "category" ? (row) => (column.names[column.codes[row]] === null ? NaN : column.codes[row])
    : (row) => column.values[row];
  const missing = (one) => one === null || Number.isNaN(one);
  table.rows.sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    if (missing(left) || missing(right)) return missing(left) - missing(right);
    return left < right ? -sign : left > right ? sign : 0;
  });
}

function heading(column) {
  const here = table.sorted === column;
  const next = () => {
    [table.sorted, table.falling] = !here ? [column, false] : table.falling ? [null, false] : [column, true];
    table.page = 0;
    sortRows();
    drawTable();
    [...byId("table").querySelectorAll("thead button")].find((button) => button.textContent === column.name)?.focus();
  };
  return element("th", { scope: "col", className: isNumber(column) ? "number" : "", "aria-sort": !here ? "none" : table.falling ? "descending" : "ascending" },
    element("button", { type: "button", dir: "auto", onclick: next }, column.name));
}

function cells(row) {
  const value = data.kind ? content.of(row) : null;
  const shown = data.kind === null ? []
    : data.kind === "image" && value ? [element("td", {}, element("img", { src: value, alt: "", onload: sharpen, loading: "lazy" }))]
    : data.kind === "sound" ? [element("td", { className: "muted" }, value ? "sound" : "")]
    : [element("td", { className: "content", dir: "auto" }, element("span", {}, value === undefined ? "…" : shortened(value ?? "", CELL)))];
  return [element("th", { scope: "row" }, String(rowNumber(row))), ...shown,
    ...columns.map((column) => {
      const text = shortened(valueText(column, row), CELL);
      const className = isNumber(column) ? "number" : text.length <= SHORT_CELL ? "short" : "";
      return element("td", { dir: "auto", className }, swatch(column, row), text);
    })];
}

function drawTable() {
  const last = Math.max(0, Math.ceil(table.rows.length / PAGE) - 1);
  table.page = Math.min(Math.max(table.page, 0), last);
  const start = table.page * PAGE;
  const part = table.rows.slice(start, start + PAGE);
  const heads = [element("th", { scope: "col" }, "row"), ...(data.kind ? [element("th", { scope: "col" }, data.kind)] : []), ...columns.map(heading)];
  const body = part.map((row, at) => element("tr", { "data-row": row, tabIndex: at ? -1 : 0 }, ...cells(row)));
  byId("table").replaceChildren(part.length
    ? element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...body))
    : element("p", { className: "nothing" }, "No rows: nothing passes the filters and the search."));
  byId("table").scrollTop = 0;
  byId("pages").hidden = last === 0;
  byId("page").textContent = part.length ? `${counted(start + 1)}–${counted(start + part.length)} of ${counted(table.rows.length)}` : "";
  byId("before").disabled = table.page === 0;
  byId("after").disabled = table.page === last;
  byId("list-title").textContent = selection.size ? `Selection: ${plural(table.rows.length, "row")}` : plural(table.rows.length, "row");
  byId("clear").hidden = !selection.size;
  byId("download").disabled = !table.rows.length || (data.kind === "text" && !content.complete);
  markOpened();
}

function markOpened() {
  for (const line of byId("table").querySelectorAll("tbody tr")) {
    line.classList.toggle("opened", Number(line.dataset.row) === opened);
  }
}

function turnPage(by) {
  table.page += by;
  drawTable();
}

function onTableKey(event) {
  const line = event.target.closest("tbody tr");
  if (!line || event.target !== line) return;
  const row = Number(line.dataset.row);
  const go = { ArrowDown: line.nextElementSibling, ArrowUp: line.previousElementSibling }[event.key];
  const turn = { PageDown: 1, PageUp: -1 }[event.key] ?? (event.key === "ArrowDown" && !go ? 1 : 0);
  if (go) focusLine(go);
  else if (turn && !byId(turn > 0 ? "after" : "before").disabled) {
    turnPage(turn);
    focusLine(byId("table").querySelector("tbody tr"));
  } else if (event.key === "Enter") openPoint(row);
  else if (event.key === " ") toggleSelected(row);
  else if (!["ArrowDown", "ArrowUp"].includes(event.key)) return;
  event.preventDefault();
}

function focusLine(line) {
  for (const other of line.parentElement.children) other.tabIndex = other === line ? 0 : -1;
  line.focus();
}

function beginTable() {
  const box = byId("table");
  const rowOf = (target) => Number(target.closest("tbody tr")?.dataset.row ?? -1);
  box.addEventListener("keydown", onTableKey);
  box.addEventListener("click", ({ target }) => rowOf(target) >= 0 && openPoint(rowOf(target)));
  box.addEventListener("focusin", ({ target }) => ringRow(rowOf(target)));
  box.addEventListener("focusout", () => ringRow(-1));
  box.addEventListener("pointerover", ({ target }) => ringRow(rowOf(target)));
  box.addEventListener("pointerleave", () => ringRow(-1));
  byId("before").addEventListener("click", () => turnPage(-1));
  byId("after").addEventListener("click", () => turnPage(1));
  byId("download").addEventListener("click", download);
}

/** Shows where a row of the table is, without its card. */
function ringRow(row) {
  cardBox.hidden = true;
  map.hovered = row;
  placeMarks();
}
