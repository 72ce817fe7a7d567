// The panel on the left: what is coloured by, what is filtered by, and the filters in force.

const FINDABLE = 25; // values from which a box to find one is shown

/** A list of a column's values: a click hides one or shows it again, "only" hides all others. */
function valueList(place, looks) {
  const column = columns[place];
  const counts = categoryCounts(column);
  const list = element("ul", { className: "values" });
  const draw = (part = "") => {
    const hidden = filters.get(place)?.hidden ?? new Set();
    const codes = column.names.map((_, code) => code).filter((code) => categoryText(column.names[code]).toLowerCase().includes(part));
    list.replaceChildren(...codes.map((code) => valueItem(place, code, counts[code], hidden.has(code), looks?.[code])));
  };
  draw();
  const find = column.names.length < FINDABLE ? null : element("input", {
    type: "search", placeholder: `Find one of ${counted(column.names.length)}`, className: "find",
    "aria-label": `Find a value of ${column.name}`, oninput: ({ target }) => draw(target.value.toLowerCase()),
  });
  const note = looks && column.names.length > LOOKS
    ? element("p", { className: "note" }, `Looks begin anew after ${LOOKS} values: point at a value to see it alone.`) : null;
  return [find, list, note].filter(Boolean);
}

function valueItem(place, code, count, isHidden, look) {
  const column = columns[place];
  const name = categoryText(column.names[code]);
  const words = place === data.grouped ? data.groups[column.names[code]] : null;
  const spot = (on) => () => look && spotValue(on ? { column, code } : null);
  const toggle = element("button", {
    type: "button", className: "value", "aria-pressed": !isHidden, title: words ? `${name}: ${words}` : name,
    onclick: () => change(() => toggleValue(place, code)), "data-code": code,
    onpointerenter: spot(true), onpointerleave: spot(false), onblur: spot(false),
  },
    look ? mark(look) : element("span", { className: "mark tick", "aria-hidden": "true" }),
    element("span", { className: "name", dir: "auto" }, name, words && words !== name ? element("small", {}, words) : ""),
    element("span", { className: "count" }, counted(count)));
  const only = element("button", {
    type: "button", className: "only", "aria-label": `Only ${name}`, onclick: () => change(() => onlyValue(place, code)),
  }, "only");
  return element("li", {}, toggle, only);
}

/** Two boxes for the least and the largest number that is shown, below the scale of the colours. */
function rangeBoxes(place, scale) {
  const column = columns[place];
  const finite = column.values.filter(Number.isFinite);
  const ends = finite.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  if (!finite.length) return [element("p", { className: "muted" }, "no numbers")];
  const now = filters.get(place) ?? {};
  const box = (label, end, value) => element("label", {}, label, element("input", {
    type: "number", step: "any", placeholder: numberText(end), value: value ?? "", "data-end": label,
    onchange: () => change(() => {
      const [low, high] = boxes.map((one) => (one.lastChild.value === "" ? undefined : Number(one.lastChild.value)));
      setRange(place, low, high);
    }),
  }));
  const boxes = [box("from", ends[0], now.low), box("to", ends[1], now.high)];
  return [scale ? scaleBar(scale) : null, element("div", { className: "range" }, ...boxes)].filter(Boolean);
}

function scaleBar({ low, high, cut }) {
  const bar = element("div", { className: "scale", role: "img", "aria-label": `colours from ${numberText(low)} to ${numberText(high)}` });
  bar.style.background = `linear-gradient(to right, ${binColors().join(",")})`;
  const end = (sign, value) => element("span", {}, `${cut ? sign : ""}${numberText(value)}`);
  return element("div", {}, bar, element("div", { className: "ends" }, end("≤ ", low), end("≥ ", high)));
}

function drawLegend() {
  const place = data.color;
  const column = columns[place];
  if (!column || column.type === "text") byId("legend").replaceChildren();
  else if (column.type === "category") replaceKept(byId("legend"), valueList(place, looksNow.looks));
  else byId("legend").replaceChildren(...rangeBoxes(place, looksNow.scale));
}

function drawFilter() {
  const place = Number(byId("filter").value);
  const column = columns[place];
  const parts = place < 0 ? [] : column.type === "category" ? valueList(place, null) : rangeBoxes(place, null);
  replaceKept(byId("filter-values"), parts);
}

/** Replaces children; the focus, a search for a value and the place of the list stay. */
function replaceKept(box, parts) {
  const code = box.contains(document.activeElement) ? document.activeElement.dataset.code : undefined;
  const top = box.querySelector("ul")?.scrollTop ?? 0;
  const find = box.querySelector(".find")?.value;
  box.replaceChildren(...parts);
  const next = box.querySelector(".find");
  if (find && next) {
    next.value = find;
    next.dispatchEvent(new Event("input"));
  }
  if (box.querySelector("ul")) box.querySelector("ul").scrollTop = top;
  if (code !== undefined) box.querySelector(`[data-code="${Number(code)}"]`)?.focus({ preventScroll: true });
}

function drawChips() {
  const drop = (text, undo) => element("li", {}, element("button", {
    type: "button", className: "chip", "aria-label": `Remove the filter ${text}`, onclick: () => change(undo),
  }, element("span", { dir: "auto" }, text), " ×"));
  byId("chips").replaceChildren(...[...filters.keys()].map((place) => drop(filterText(place), () => filters.delete(place))));
}

function fillSelects() {
  const named = (place) => element("option", { value: place }, columns[place].name);
  const usable = [...columns.keys()].filter((place) => columns[place].type !== "text");
  byId("color").replaceChildren(...usable.map(named));
  byId("color").value = data.color;
  byId("filter").replaceChildren(element("option", { value: -1 }, "nothing"), ...usable.map(named));
  byId("colouring").hidden = byId("filtering").hidden = usable.length === 0;
}
