// What the verdicts measure so far, read again every few seconds.

const EVERY = 5000;
const [WIDTH, HEIGHT] = [760, 220];

async function read() {
  try {
    const answer = await fetch("api/progress");
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.json());
  } catch {
    document.getElementById("state").textContent = "The server does not answer; what is below was read before.";
  }
  setTimeout(read, EVERY);
}

function show({ words, outlook, reviewers, band }) {
  document.getElementById("state").textContent = `Read at ${new Date().toLocaleTimeString()}.`;
  document.getElementById("told").replaceChildren(
    made("h2", "Who judged how much"), table(["reviewer", "their queue", "judged"], reviewers),
    made("h2", "So far"), list(words),
    made("h2", "What more verdicts would bring"), list(outlook),
    ...(band.length > 1 ? [made("h2", "Share of copies, from the nearest drawn pair on"), figure(band)] : []),
  );
}

function made(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

function list(lines) {
  const element = document.createElement("ul");
  element.append(...lines.map((line) => made("li", line)));
  return element;
}

function table(head, rows) {
  const element = document.createElement("table");
  const row = (cells, tag) => {
    const made_row = document.createElement("tr");
    made_row.append(...cells.map((cell) => made(tag, cell)));
    return made_row;
  };
  const [top, body] = ["thead", "tbody"].map((tag) => document.createElement(tag));
  top.append(row(head, "th"));
  body.append(...rows.map((cells) => row(cells, "td")));
  element.append(top, body);
  return element;
}

function drawn(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

// Rows are (T, share so far, low, high).
function figure(rows) {
  const last = rows.at(-1);
  const x = (k) => (k / (rows.length - 1)) * WIDTH;
  const y = (share) => HEIGHT * (1 - share);
  const points = (column) => rows.map((row, k) => `${x(k).toFixed(1)},${y(row[column]).toFixed(1)}`);
  const percent = (share) => `${Math.round(100 * share)} %`;
  const told = `After ${rows.length} decided pairs, up to T ${last[0].toFixed(3)}: ${percent(last[1])}, band ${percent(last[2])} to ${percent(last[3])}`;
  const svg = drawn("svg", { viewBox: `-40 -10 ${WIDTH + 60} ${HEIGHT + 40}`, role: "img", "aria-label": told });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(drawn("line", { class: share ? "grid" : "axis", x1: 0, x2: WIDTH, y1: y(share), y2: y(share) }));
    svg.append(drawn("text", { x: -6, y: y(share) + 4, "text-anchor": "end" }, percent(share)));
  }
  svg.append(drawn("polygon", { class: "band", points: [...points(3), ...points(2).reverse()].join(" ") }));
  svg.append(drawn("polyline", { class: "line", points: points(1).join(" ") }));
  svg.append(drawn("text", { x: 0, y: HEIGHT + 20 }, "nearest"));
  svg.append(drawn("text", { x: WIDTH, y: HEIGHT + 20, "text-anchor": "end" }, `${rows.length} decided pairs within tau`));
  const box = document.createElement("figure");
  box.append(svg, made("figcaption", told));
  return box;
}

read();
