// The words of the clusters, drawn where most of each cluster's points are.

const groupColumn = columns[data.grouped];
const wordPlaces = groupColumn ? placesOfWords() : [];

/** For each named cluster: the point of it that is nearest to the middle of its points. */
function placesOfWords() {
  const members = new Map();
  groupColumn.codes.forEach((code, row) => {
    if (!Object.hasOwn(data.groups, groupColumn.names[code])) return;
    if (!members.has(code)) members.set(code, []);
    members.get(code).push(row);
  });
  return [...members].map(([code, rows]) => {
    const [x, y] = [X, Y].map((axis) => rows.map((row) => axis[row]).sort((a, b) => a - b)[rows.length >> 1]);
    const far = (row) => (X[row] - x) ** 2 + (Y[row] - y) ** 2;
    const middle = rows.reduce((best, row) => (far(row) < far(best) ? row : best), rows[0]);
    return { code, row: middle, count: rows.length, text: data.groups[groupColumn.names[code]] };
  });
}

/** How far a label moves to be read at an edge of the map; one whose point is outside stays outside. */
function shift(middle, width) {
  const [least, most] = [4 + width / 2, chart.getWidth() - 4 - width / 2];
  const outside = middle < 0 || middle > chart.getWidth() || least > most;
  return outside ? 0 : Math.min(Math.max(middle, least), most) - middle;
}

/** Labels that would cover each other are left out, those of the larger clusters staying. */
function wordSeries() {
  const hidden = filters.get(data.grouped)?.hidden;
  const shown = map.words ? wordPlaces.filter(({ code }) => !hidden?.has(code)) : [];
  const small = chart.getWidth() < 520;
  return {
    id: "words", type: "scatter", z: 10, silent: true, symbolSize: 1, itemStyle: { color: "transparent", opacity: 1 },
    data: shown.sort((a, b) => b.count - a.count).map(({ row, text }) => ({ value: [X[row], Y[row]], name: text })),
    labelLayout: ({ rect, labelRect }) => ({ hideOverlap: true, dx: shift(rect.x + rect.width / 2, labelRect.width) }),
    label: {
      show: true, position: "inside", formatter: ({ name }) => shortened(name, small ? 22 : 40),
      color: ink("ink"), fontSize: small ? 11 : 12.5, fontWeight: 600, fontFamily: "system-ui, sans-serif",
      textBorderColor: ink("map"), textBorderWidth: 4,
    },
  };
}
