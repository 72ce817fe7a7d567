// What is behind a point: in short beside the pointer, in full in the panel.

const SHORT = 260; // characters of a text beside the pointer
const LONG = 20_000; // characters of a text in the panel before all of it is asked for
const MOST_FACTS = 8; // columns beside the pointer

const cardBox = byId("card");
const pointBox = byId("point");
let opened = -1;

/** The content of a row as an element: shortened for the card, whole for the panel. */
function shownContent(row, whole) {
  if (data.kind === null) return null;
  const value = content.of(row);
  if (value === undefined) return element("p", { className: "muted waiting" }, "still loading …");
  if (value === null) return element("p", { className: "muted" }, `no ${data.kind}`);
  if (data.kind === "image") return element("img", { src: value, alt: `image of row ${rowNumber(row)}`, onload: sharpen });
  if (data.kind === "sound") {
    return whole
      ? element("audio", { controls: true, src: value, "aria-label": `sound of row ${rowNumber(row)}` })
      : element("p", { className: "muted" }, "a sound: open the point to hear it");
  }
  if (value === "") return element("p", { className: "muted" }, "(empty)");
  const text = element("p", { className: "text", dir: "auto" }, whole ? shortened(value, LONG) : shortened(value, SHORT));
  if (!whole || value.length <= LONG) return text;
  const more = element("button", { type: "button", onclick: () => (text.replaceChildren(value), more.remove()) },
    `Show all ${counted(value.length)} characters`);
  return element("div", {}, text, more);
}

/** Small images are magnified as they are, pixel by pixel. */
function sharpen({ target }) {
  target.classList.toggle("pixels", Math.max(target.naturalWidth, target.naturalHeight) <= 48);
}

function facts(row, most) {
  const known = columns.filter((column) => valueText(column, row) !== "");
  return element("dl", {}, ...known.slice(0, most).map((column) =>
    element("div", {},
      element("dt", { dir: "auto" }, column.name),
      element("dd", { dir: "auto" }, swatch(column, row), most < Infinity ? shortened(valueText(column, row), 80) : valueText(column, row)))));
}

/** The mark of a row's colour, beside the column that gives it. */
function swatch(column, row) {
  return column === columns[data.color] ? mark(looksNow.looks[looksNow.classes[row]]) : null;
}

function mark({ color, shape }) {
  const made = element("span", { className: `mark ${shape}`, "aria-hidden": "true" });
  made.style.background = color;
  return made;
}

/** Shows what has come since, where a card or the panel waits for it. */
function showLoaded() {
  if (cardBox.querySelector(".waiting")) showCard(map.hovered);
  if (pointBox.querySelector(".waiting")) openPoint(opened);
}

/** The card beside a point; -1 takes it away. */
function showCard(row) {
  map.hovered = row;
  cardBox.hidden = row < 0;
  if (row >= 0) {
    cardBox.replaceChildren(...[shownContent(row, false) ?? element("p", { className: "muted" }, `row ${rowNumber(row)}`), facts(row, MOST_FACTS)]);
    cardBox.firstElementChild?.addEventListener("load", placeMarks);
  }
  placeMarks();
}

/** Puts ring, pin and card where their points are now. */
function placeMarks() {
  const seen = frame();
  for (const [box, row] of [[byId("ring"), map.hovered], [byId("pin"), opened]]) {
    const [x, y] = row < 0 ? [-1, -1] : pixelOf(row, seen);
    box.hidden = row < 0 || x < 0 || y < 0 || x > seen.width || y > seen.height;
    box.style.transform = `translate(${x}px, ${y}px)`;
    box.style.setProperty("--size", `${map.size + 10}px`);
  }
  if (map.hovered < 0) return;
  const [x, y] = pixelOf(map.hovered, seen);
  const [width, height] = [cardBox.offsetWidth, cardBox.offsetHeight];
  const left = x + 18 + width <= seen.width - 8 ? x + 18 : Math.max(8, x - 18 - width);
  const top = Math.min(Math.max(8, y - height / 2), Math.max(8, seen.height - height - 8));
  const covers = left < x && x < left + width; // a narrow screen: above or below the point instead
  const beside = y + 18 + height <= seen.height ? y + 18 : Math.max(8, y - 18 - height);
  cardBox.style.transform = `translate(${Math.round(left)}px, ${Math.round(covers ? beside : top)}px)`;
}

/** Opens a row in the panel; -1 closes it. */
function openPoint(row) {
  opened = row;
  pointBox.hidden = row < 0;
  pointBox.replaceChildren();
  if (row >= 0) {
    const close = element("button", { type: "button", className: "quiet close", "aria-label": "Close", onclick: () => openPoint(-1) }, "×");
    const pick = element("button", { type: "button", onclick: () => (toggleSelected(row), openPoint(row)) },
      selection.has(row) ? "Take out of the selection" : "Add to the selection");
    pointBox.append(...[element("div", { className: "bar" }, element("h2", {}, `Row ${rowNumber(row)}`), close),
      shownContent(row, true), facts(row, Infinity), pick].filter(Boolean));
    say(spoken(row));
  }
  placeMarks();
  markOpened();
}

function spoken(row) {
  const value = data.kind === "text" ? content.of(row) : null;
  const known = columns.map((column) => [column.name, valueText(column, row)]).filter(([, text]) => text !== "");
  return [`Row ${rowNumber(row)}`, ...(value ? [shortened(value, SHORT)] : []), ...known.map((pair) => pair.join(" "))].join(". ");
}
