// The rows of the table as a file, as RFC 4180 has it; no cell can be taken for a formula.

/** A cell that a spreadsheet would compute begins with an apostrophe instead; numbers of a number column stay. */
function cell(value) {
  const text = typeof value === "number" ? (Number.isFinite(value) ? String(value) : "") : (value ?? "");
  const harmless = typeof value !== "number" && /^[=+\-@\t\r\n]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

function csvText(rows) {
  const withText = data.kind === "text";
  const names = ["row", "x", "y", ...(withText ? ["text"] : []), ...columns.map(({ name }) => name)];
  const line = (row) => [rowNumber(row), coordinate(0, row), coordinate(1, row), ...(withText ? [content.of(row)] : []),
    ...columns.map((column) => (isNumber(column) ? column.values[row] : valueText(column, row)))];
  return [names, ...rows.map(line)].map((values) => `${values.map(cell).join(",")}\r\n`).join("");
}

function download() {
  // the mark at the beginning tells a spreadsheet that this is UTF-8
  const file = URL.createObjectURL(new Blob(["\ufeff", csvText(table.rows)], { type: "text/csv;charset=utf-8" }));
  element("a", { href: file, download: selection.size ? "selection.csv" : "rows.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(file), 1000);
}
