// What a run has done so far, read again every two seconds.

const EVERY = 2000;
const SIDES = { picture: "picture of the training set", control: "control, never trained on" };
const $ = (id) => document.getElementById(id);
let shown = "";

async function read() {
  try {
    const answer = await fetch("api/status");
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.json());
  } catch {
    $("state").textContent = "The server does not answer; what is below was read before.";
  }
  setTimeout(read, EVERY);
}

function show({ rows, pairs, tau, finished }) {
  const now = rows.findLast((row) => row.begun) ?? rows.at(-1);
  $("state").textContent = finished ? "Finished: the report is written." : now ? `Now: ${now.name}.` : "Nothing was begun yet.";
  $("rows").replaceChildren(...rows.map(row));
  $("about").textContent = pairs.length ? `T within ${tau} is near. Nothing is certified before all controls are weighed.` : "None yet.";
  const ids = pairs.map((pair) => pair.id).join();
  if (ids !== shown) $("pairs").replaceChildren(...pairs.map(pair));
  shown = ids;
}

function row({ name, done, begun, of, items, seconds, at }) {
  const element = made("tr");
  const parts = made("td", of === null ? `${done}` : `${done} of ${of}`);
  if (of) {
    const bar = made("progress");
    bar.max = of;
    bar.value = Math.min(done, of);
    bar.setAttribute("aria-label", `${name}: parts done`);
    parts.append(" ", bar);
  }
  if (begun) parts.append(`, ${begun} at work`);
  const first = made("th", name);
  first.scope = "row";
  element.append(first, parts, made("td", items.toLocaleString()), made("td", seconds.toLocaleString()), made("td", new Date(at).toLocaleTimeString()));
  return element;
}

function pair({ id, t, side, seed }) {
  const item = made("li");
  for (const which of ["sample", "picture"]) {
    const image = made("img");
    image.src = `images/${id}/${which}`;
    image.alt = which === "sample" ? `Sample of seed ${seed}` : `Its nearest ${side}`;
    image.loading = "lazy";
    item.append(image);
  }
  item.append(made("p", `T ${t}, ${SIDES[side]}`));
  return item;
}

function made(tag, text = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

$("reveal").addEventListener("click", () => {
  const hidden = $("pairs").classList.toggle("blurred");
  $("reveal").setAttribute("aria-pressed", String(!hidden));
});

read();
