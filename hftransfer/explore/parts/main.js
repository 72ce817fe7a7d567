// Everything together: what changes when, keys, and the beginning.

let looksNow = colouring(columns[data.color]);
let brokenPieces = false;

/** Does something to the filters, the search or the selection, and draws anew what depends on them. */
function change(work = () => {}) {
  work();
  spotted = null;
  const passing = judge();
  const rows = [];
  for (let row = 0; row < ROWS; row++) if (state[row] === ACTIVE) rows.push(row);
  drawMap(looksNow);
  drawLegend();
  drawFilter();
  drawChips();
  setRows(rows);
  drawStatus(passing);
  if (map.hovered >= 0 && state[map.hovered] < UNSELECTED) showCard(-1);
  placeMarks();
}

function drawStatus(passing) {
  const parts = [passing === ROWS ? plural(ROWS, "point") : `${counted(passing)} of ${plural(ROWS, "point")}`];
  if (wanted) parts[0] += data.kind === "text" && !content.complete ? " so far" : "";
  if (selection.size) parts.push(`${counted(table.rows.length)} selected`);
  byId("status").textContent = parts.join(" · ");
}

function toggleSelected(row) {
  change(() => selection.delete(row) || selection.add(row));
  say(selection.has(row) ? `Row ${rowNumber(row)} selected` : `Row ${rowNumber(row)} not selected`);
}

function select(rows, add) {
  change(() => {
    if (!add) selection.clear();
    for (const row of rows) selection.add(row);
  });
  say(`${plural(selection.size, "row")} selected`);
}

const spotValue = settled((spot) => {
  if (!spot === !spotted && spot?.code === spotted?.code) return;
  spotted = spot;
  drawMap(looksNow);
}, 120);

/** Draws anew in the other sizes or colours of a new window, zoom or theme. */
function redraw() {
  looksNow = colouring(columns[data.color]);
  drawMap(looksNow);
  placeMarks();
}

function beginPointer() {
  let adding = false;
  canvas.addEventListener("pointerdown", ({ shiftKey }) => (adding = shiftKey));
  const zr = chart.getZr();
  let pressed = false;
  zr.on("mousedown", () => ((pressed = true), showCard(-1)));
  zr.on("mouseup", () => (pressed = false));
  zr.on("mousemove", ({ offsetX, offsetY }) => {
    if (pressed || map.lasso) return;
    const row = rowAt(offsetX, offsetY);
    canvas.classList.toggle("over", row >= 0);
    if (row !== map.hovered || cardBox.hidden) showCard(row);
  });
  zr.on("globalout", () => showCard(-1));
  zr.on("click", ({ offsetX, offsetY }) => !map.lasso && openPoint(rowAt(offsetX, offsetY)));
  chart.on("brushEnd", ({ areas }) => {
    if (!areas.length) return;
    const rows = rowsWithin(areas[0].range);
    chart.dispatchAction({ type: "brush", areas: [] });
    useLasso(false);
    if (rows.length) select(rows, adding);
  });
  const sized = settled(() => Math.abs(pointSize() - map.size) > 0.4 && redraw(), 160);
  chart.on("dataZoom", () => (placeMarks(), sized()));
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function onMapKey(event) {
  const step = STEPS[event.key];
  const { width, height } = frame();
  if (step) {
    const from = map.hovered >= 0 ? map.hovered : opened;
    const row = from >= 0 ? rowBeyond(from, step) : rowAt(width / 2, height / 2, Infinity);
    if (row >= 0) {
      bringIntoView(row);
      showCard(row);
      say(spoken(row));
    }
  } else if (event.key === "Enter" && map.hovered >= 0) {
    openPoint(map.hovered);
    pointBox.focus({ preventScroll: true });
  } else if (event.key === " " && map.hovered >= 0) toggleSelected(map.hovered);
  else return;
  event.preventDefault();
}

const KEYS = {
  "/": () => byId("search").focus(),
  l: () => useLasso(!map.lasso),
  "+": () => zoomBy(1.6), "=": () => zoomBy(1.6), "-": () => zoomBy(1 / 1.6), 0: () => zoomBy(0),
};

function onKey(event) {
  if (event.key === "Escape") return escape_(event);
  if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  const work = KEYS[event.key.toLowerCase()];
  if (!work) return;
  event.preventDefault();
  work();
}

/** Takes back the last thing: a lasso that is being drawn, the card, the open point, the selection, the search. */
function escape_(event) {
  if (map.lasso) useLasso(false);
  else if (isTyping(event.target) && event.target.value && event.target.id === "search") search("");
  else if (map.hovered >= 0 && !cardBox.hidden) showCard(-1);
  else if (opened >= 0) {
    if (pointBox.contains(document.activeElement)) canvas.focus({ preventScroll: true });
    openPoint(-1);
  }
  else if (selection.size) select([], false);
  else if (wanted) search("");
}

function search(text) {
  if (byId("search").value !== text) byId("search").value = text;
  change(() => (wanted = text.trim().toLowerCase()));
  if (wanted) say(byId("status").textContent);
}

function beginControls() {
  byId("color").addEventListener("change", ({ target }) => {
    data.color = Number(target.value);
    looksNow = colouring(columns[data.color]);
    change();
  });
  byId("filter").addEventListener("change", drawFilter);
  byId("search").addEventListener("input", settled(() => search(byId("search").value), 150));
  byId("clear").addEventListener("click", () => select([], false));
  byId("pan").addEventListener("click", () => useLasso(false));
  byId("lasso").addEventListener("click", () => useLasso(!map.lasso));
  byId("closer").addEventListener("click", KEYS["+"]);
  byId("further").addEventListener("click", KEYS["-"]);
  byId("whole").addEventListener("click", KEYS[0]);
  byId("words").hidden = !wordPlaces.length;
  byId("words").addEventListener("click", () => {
    map.words = !map.words;
    byId("words").setAttribute("aria-pressed", map.words);
    drawMap(looksNow);
  });
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    newTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", newTheme);
  document.addEventListener("keydown", onKey);
  canvas.addEventListener("keydown", onMapKey);
  canvas.addEventListener("blur", () => showCard(-1));
  new ResizeObserver(() => {
    chart.resize();
    setAxes();
    redraw();
  }).observe(canvas);
}

function newTheme() {
  chart.setOption({ brush: { brushStyle: lassoStyle() } });
  redraw();
  drawLegend();
  drawTable();
}

function beginContent() {
  const progress = byId("loading");
  const name = { text: "texts", image: "images", sound: "sounds" }[data.kind];
  if (data.kind === null) return;
  const searchAgain = settled(change, 250);
  loadContent((broken) => {
    brokenPieces ||= broken;
    progress.hidden = content.complete && !brokenPieces;
    progress.textContent = brokenPieces ? `Some ${name} could not be read: the folder ${data.folder} must lie beside this page.`
      : `Loading ${name}: ${Math.round((100 * content.loaded) / data.pieces.length)} %`;
    showLoaded();
    if (wanted && data.kind === "text") searchAgain();
    if (content.complete || content.loaded === 1) drawTable();
  });
}

canvas.setAttribute("aria-label", [plural(ROWS, "point"), ...data.axes].filter(Boolean).join(", "));
byId("axes").textContent = data.axes.map((axis, at) => axis && `${"→↑"[at]} ${axis}`).filter(Boolean).join("   ");
if (data.notes.length) {
  byId("notes").hidden = false;
  byId("notes").append(...data.notes.map((note) => element("p", { dir: "auto" }, note)));
}
beginMap();
fillSelects();
beginControls();
beginPointer();
beginTable();
change();
beginContent();
