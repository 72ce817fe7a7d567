// Small things that the other parts share. Nothing of the data is ever parsed as markup: text nodes only.

const byId = (id) => document.getElementById(id);

/** An element with properties, attributes and children; a string becomes a text node. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "role") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Calls `work` when nothing has asked for it during so many milliseconds. */
function settled(work, milliseconds) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}

const counted = (number) => number.toLocaleString("en");
const plural = (number, one) => `${counted(number)} ${one}${number === 1 ? "" : "s"}`;

function numberText(value) {
  if (!Number.isFinite(value)) return "";
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
}

/** The beginning of a text: whole letters, also those of two halves. */
function shortened(text, most) {
  if (text.length <= most) return text;
  const end = text.charCodeAt(most - 1) >= 0xd800 && text.charCodeAt(most - 1) < 0xdc00 ? most - 1 : most;
  return `${text.slice(0, end).trimEnd()}…`;
}

const isTyping = (target) => target.matches("input:not([type=checkbox]), select, textarea");

/** Says something to those who hear the page. */
function say(text) {
  byId("said").textContent = text;
}
