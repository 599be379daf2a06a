// The page on which people judge: keys, buttons, whose turn it is, what comes next.

import { Viewer } from "./looking.js";
import { Outbox } from "./sending.js";

const VERDICTS = { c: "copy", p: "part", a: "alike", n: "no", u: "unsure" };
const LOOKS = { 1: "beside", 2: "overlay", 3: "flicker", 4: "difference", 5: "outlines" };
const AROUND = { 6: 0, 7: 1, 8: 2 }; // which of the lists around a pair
const AHEAD = 4; // pairs whose images are fetched before they are wanted
const ASKED = 24; // open turns asked for at once
const FEW = 12; // open turns known at which more are asked for
const KEPT = 24; // pairs whose bitmaps stay
const PAN = 0.1;
const WAITS = 2000; // ms that the page waits at first for what is not stored yet
const PRIVATE = new Set(["caption", "prompt", "file"]);
const STAYS = "You were told of this pair, so its verdict stays.";

const $ = (id) => document.getElementById(id);
const viewer = new Viewer($("stage"));
const bitmaps = new Map(); // id -> promise of {sample, picture, aligned} or null
const said = new Map(); // id -> {verdict, note, level}: what this page said, whether it is stored yet or not
const before = []; // for undo: {ordinal, id, verdict, note, level}
let session = null;
let turn = null; // the pair on the stage; null where all is done
let upcoming = []; // open turns, the next first
let judged = 0;
let moves = 0; // counts moves, so that a late answer does not show an old pair
let wanted = 0; // when the pair on the stage was asked for, in ms
const troubles = {}; // what is told at the top, by its kind
let ready = false; // whether the pair on the stage can be seen, and so be judged
let gone = false; // whether an image of the pair on the stage is gone

const outbox = new Outbox(
  ({ unsent, silent }) => {
    const words = unsent === 0 ? "All stored" : `${unsent} not stored yet`;
    $("state").textContent = words;
    $("state").className = silent ? "silent" : unsent ? "waiting" : "stored";
    tell(silent && `${silent} ${unsent} of your verdicts wait in this page and are sent again.`, "silent");
  },
  (item, words) => {
    said.delete(item.id);
    tell(`A verdict was refused: ${words}. Pair ${item.id} is open again.`, "refused");
  },
);

// Asks again while the server does not answer; throws where it no longer knows this address.
async function asked(path) {
  for (let pause = 200; ; pause = Math.min(2 * pause, 4000)) {
    try {
      const answer = await fetch(path);
      if (answer.ok) return await answer.json();
      if (answer.status < 500 && answer.status !== 429) throw new Gone(answer.status);
    } catch (error) {
      if (error instanceof Gone) throw error;
      tell("The server does not answer; this page goes on once it does.");
    }
    await new Promise((done) => setTimeout(done, pause));
  }
}

class Gone extends Error {}

async function start() {
  await Promise.race([outbox.flush(), new Promise((done) => setTimeout(done, WAITS))]);
  for (const { id, verdict, note, level } of outbox.items) said.set(id, { verdict, note, level });
  const waiting = [...said.values()].filter((each) => each.verdict).length;
  session = await asked("api/session");
  judged = session.judged + waiting;
  $("name").textContent = session.name;
  $("mode").textContent = session.mode === "explore" ? "explores; nothing here enters a rate" : "";
  $("note").maxLength = session.longest_note;
  document.body.classList.toggle("exploring", session.mode === "explore");
  $("around").hidden = session.mode !== "explore";
  reveal(session.reveal || sessionStorage.getItem("revealed") === "yes");
  upcoming = session.turns;
  await nextOpen(-1);
}

// --- whose turn ---

function move() {
  ready = gone = false;
  wanted = performance.now();
  return ++moves;
}

async function goTo(ordinal) {
  const mine = move();
  upcoming = []; // what is open next counts from here
  const [found] = (await asked(`api/turns?from=${ordinal}&count=1`)).turns;
  if (mine === moves && found) await show(found, mine);
}

async function nextOpen(after) {
  const mine = move();
  upcoming = upcoming.filter(isOpen);
  if (!upcoming.length) await refill(after, mine);
  if (!upcoming.length) {
    await outbox.flush(); // then the server knows all that this page said
    await refill(after, mine);
  }
  if (mine !== moves) return;
  if (!upcoming.length) return finish();
  await show(upcoming[0], mine);
}

// Add open turns, unless the reviewer has moved on since.
async function refill(after, mine) {
  const { turns, count, length } = await asked(`api/open?after=${after}&count=${ASKED}`);
  if (mine !== moves) return;
  Object.assign(session, { count, length });
  const known = new Set(upcoming.map((each) => each.id));
  upcoming.push(...turns.filter((each) => isOpen(each) && !known.has(each.id)));
}

function isOpen(each) {
  return !(said.has(each.id) ? said.get(each.id).verdict : each.verdict);
}

async function show(found, mine) {
  turn = { ...found, ...said.get(found.id) };
  upcoming = upcoming.filter((each) => each.id !== turn.id);
  describe();
  const both = await images(turn);
  if (mine !== moves) return;
  viewer.show(both);
  ready = both !== null;
  gone = !ready;
  tell("");
  $("gone").hidden = ready;
  $("done").hidden = true;
  $("stage").dataset.id = turn.id;
  requestAnimationFrame(() => {
    $("stage").dataset.took = (performance.now() - wanted).toFixed(1);
    $("stage").dataset.shown = found.id;
  });
  prepare(mine).catch(() => {}); // what fails is told when its turn comes
}

// Fetch what comes next, one pair at a time, and none once another pair is wanted: that one must not wait for them.
async function prepare(mine) {
  const more = upcoming.length < FEW ? refill((upcoming.at(-1) ?? turn).ordinal, mine) : null;
  if (!upcoming.length) await more;
  for (const each of upcoming.slice(0, AHEAD)) {
    if (mine !== moves) break;
    await images(each);
  }
  await more;
}

function finish() {
  turn = null;
  viewer.show(null);
  $("done").hidden = false;
  $("telling").hidden = session.mode === "explore";
  $("stage").dataset.shown = "";
  describe();
  announce("Every pair of yours is judged.");
}

// --- images ---

function images({ id, moved }) {
  const known = bitmaps.get(id);
  if (known) return known;
  const wanted = ["sample", "picture", ...(session.mode === "measure" || moved ? ["aligned"] : [])];
  const made = Promise.all(wanted.map((which) => bitmap(id, which))).then(
    ([sample, picture, aligned = picture]) => (sample && picture && aligned ? { sample, picture, aligned } : null),
    (error) => { bitmaps.delete(id); throw error; },
  );
  bitmaps.set(id, made);
  for (const old of [...bitmaps.keys()].slice(0, Math.max(0, bitmaps.size - KEPT))) bitmaps.delete(old);
  return made;
}

async function bitmap(id, which) {
  for (let pause = 200; ; pause = Math.min(2 * pause, 4000)) {
    try {
      const answer = await fetch(`images/${id}/${which}`);
      if (answer.ok) return await createImageBitmap(await answer.blob());
      if (answer.status === 404 || answer.status === 410) return null;
    } catch { /* the server does not answer: again, a little later */ }
    await new Promise((done) => setTimeout(done, pause));
  }
}

// --- verdicts ---

function judge(verdict) {
  if (!turn || !ready) return;
  if (told()) return void announce(STAYS);
  tell("", "refused");
  before.push({ ordinal: turn.ordinal, id: turn.id, verdict: turn.verdict, note: turn.note, level: turn.level });
  judged += turn.verdict ? 0 : 1;
  say(turn.id, verdict, $("note").value, level());
  announce(`${verdict}. ${judged} of ${session.count} judged.`);
  return nextOpen(turn.ordinal);
}

function say(id, verdict, note, level) {
  said.set(id, { verdict, note, level });
  outbox.add({ id, verdict, note, level });
}

// Whether the verdict on the pair on the stage can no longer be changed, because its facts are known.
function told() {
  return session.mode === "measure" && turn.told;
}

// Ask for what was hidden: what is judged stays as it is from then on.
async function tellMe() {
  if (turn || session.mode === "explore") return;
  await outbox.flush();
  const answer = await fetch("api/told", { method: "POST" });
  if (!answer.ok) return void tell(`Not yet: ${(await answer.json()).error}.`);
  said.clear();
  before.length = 0;
  await goTo(0);
}

function level() {
  return $("level").value === "" ? null : Number($("level").value);
}

async function undo() {
  if (turn && !ready && !gone) return;
  const last = before.pop();
  if (!last) return void announce("Nothing to undo since this page was loaded.");
  judged -= last.verdict ? 0 : 1;
  say(last.id, last.verdict, last.note, last.level);
  announce("Undone.");
  await goTo(last.ordinal);
}

function noted() {
  $("note").blur();
  if (turn?.verdict && !told() && $("note").value !== turn.note) {
    turn.note = $("note").value;
    say(turn.id, turn.verdict, turn.note, level());
    announce("Note kept.");
  }
}

function levelled() {
  if (turn?.verdict && !told() && level() !== turn.level) {
    turn.level = level();
    say(turn.id, turn.verdict, $("note").value, turn.level);
    announce("Level kept.");
  }
}

// Go to the next pair that is looked for, or tell that there is none.
async function seek(wanted, none) {
  await outbox.flush();
  const { turns } = await asked(`api/find?after=${turn?.ordinal ?? -1}&${wanted}`);
  announce(turns.length ? `Found pair ${turns[0].ordinal + 1}.` : "Nothing found.");
  tell(turns.length ? "" : none);
  if (turns.length) await goTo(turns[0].ordinal);
}

function seekVerdict() {
  const verdict = $("which").value;
  return seek(`verdict=${verdict}`, `No pair of yours is ${verdict}.`);
}

function seekWords() {
  const text = $("find").value;
  const known = session.mode === "explore" ? "what is told of it, or your note" : "your note";
  if (text.trim()) return seek(`text=${encodeURIComponent(text)}`, `No pair has all these words in ${known}.`);
}

// --- what is said on the page ---

function describe() {
  $("place").textContent = turn ? `Pair ${(turn.ordinal + 1).toLocaleString()} of ${session.length.toLocaleString()}, ${judged.toLocaleString()} judged` : `${judged.toLocaleString()} judged`;
  $("progress").value = session.count ? judged / session.count : 0;
  $("note").value = turn?.note ?? "";
  $("level").value = turn?.level ?? "";
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.setAttribute("aria-pressed", String(button.dataset.verdict === turn?.verdict));
    button.disabled = Boolean(turn && told());
  }
  $("note").disabled = $("level").disabled = Boolean(turn && told());
  legend();
  facts();
}

// What others wrote stays hidden as long as the images do.
function facts() {
  const hidden = $("stage").classList.contains("blurred");
  const rows = Object.entries(turn?.facts ?? {});
  $("facts").hidden = !rows.length;
  $("facts").replaceChildren(
    ...rows.flatMap(([name, value]) => [element("dt", name), element("dd", hidden && PRIVATE.has(name) ? "hidden" : value)]),
  );
}

// Texts of others go in as text, each in a direction of its own.
function element(tag, text) {
  const made = document.createElement(tag);
  const inner = document.createElement("bdi");
  inner.textContent = text;
  made.append(inner);
  return made;
}

function announce(words) {
  $("live").textContent = words;
}

// Each kind of trouble is told until it is over.
function tell(words, kind = "page") {
  troubles[kind] = words;
  const all = Object.values(troubles).filter(Boolean).join(" ");
  if ($("alert").textContent !== all) $("alert").textContent = all;
}

function reveal(shown) {
  $("stage").classList.toggle("blurred", !shown);
  $("veil").hidden = shown;
  sessionStorage.setItem("revealed", shown ? "yes" : "no");
  facts();
}

// What the colours of a view mean, and how the picture was moved in those that lay it over the sample.
function legend() {
  const moved = viewer.view !== "beside" && turn?.moved ? `picture ${turn.moved}` : "";
  $("legend").textContent = [viewer.legend, moved].filter(Boolean).join("; ");
}

function look(view) {
  viewer.look(view);
  legend();
  $("slider").hidden = view !== "overlay";
  for (const button of document.querySelectorAll("[data-look]")) {
    button.setAttribute("aria-pressed", String(button.dataset.look === view));
  }
}

function slide(by) {
  $("share").value = Number($("share").value) + by;
  viewer.slide($("share").value / 100);
}

// Show what is around a pair: one of the lists, or all of them.
async function around(which) {
  if (!turn || session.mode !== "explore") return;
  const { groups: lists } = await asked(`api/pairs/${turn.id}/more`);
  const groups = (lists[which] ? [lists[which]] : lists).map(({ title, items }) => {
    const section = document.createElement("section");
    const heading = document.createElement("h3");
    heading.textContent = title;
    const list = document.createElement("ul");
    list.append(...items.map(thumb));
    section.append(heading, items.length ? list : element("p", "none"));
    return section;
  });
  $("more-body").replaceChildren(...groups);
  $("more-body").classList.toggle("blurred", $("stage").classList.contains("blurred"));
  $("more").showModal();
}

function thumb({ src, words }) {
  const item = document.createElement("li");
  const image = document.createElement("img");
  image.src = src;
  image.alt = "";
  image.loading = "lazy";
  item.append(image, element("span", words));
  return item;
}

// --- keys and buttons ---

const KEYS = {
  ...Object.fromEntries(Object.entries(VERDICTS).map(([key, verdict]) => [key, () => judge(verdict)])),
  ...Object.fromEntries(Object.entries(LOOKS).map(([key, view]) => [key, () => look(view)])),
  z: undo,
  s: () => turn && nextOpen(turn.ordinal),
  r: () => reveal($("stage").classList.contains("blurred")),
  w: () => $("note").focus(),
  l: () => $("level").focus(),
  g: seekVerdict,
  ...Object.fromEntries(Object.entries(AROUND).map(([key, which]) => [key, () => around(which)])),
  m: () => around(),
  i: tellMe,
  f: () => $("find").focus(),
  "[": () => slide(-10),
  "]": () => slide(10),
  "+": () => viewer.zoomed(1.5),
  "=": () => viewer.zoomed(1.5),
  "-": () => viewer.zoomed(1 / 1.5),
  0: () => viewer.zoomed(0),
  "?": () => $("help").showModal(),
  ArrowLeft: () => turn ? turn.ordinal > 0 && goTo(turn.ordinal - 1) : session.length && goTo(session.length - 1),
  ArrowRight: () => turn && turn.ordinal + 1 < session.length && goTo(turn.ordinal + 1),
};
const PANS = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] };

addEventListener("keydown", (event) => {
  if (event.target === $("note")) {
    if (event.key === "Enter" || event.key === "Escape") noted();
    return;
  }
  if (event.target === $("level") || event.target === $("which")) {
    if (event.key === "Enter" || event.key === "Escape") handled(event, () => event.target.blur());
    return;
  }
  if (event.target === $("find")) {
    if (event.key === "Enter") run(seekWords);
    if (event.key === "Escape") $("find").blur();
    return;
  }
  if (!session || event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
  if (event.shiftKey && PANS[event.key]) return handled(event, () => viewer.pan(...PANS[event.key]));
  if (event.target === $("share") && event.key.startsWith("Arrow")) return;
  if (event.key === " " && viewer.view === "flicker" && event.target.tagName !== "BUTTON") return handled(event, () => viewer.step());
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key.length === 1 && key !== "?" && !$("keys").checked) return;
  if (KEYS[key] && !event.repeat) handled(event, KEYS[key]);
});

function handled(event, does) {
  event.preventDefault();
  run(does);
}

async function run(does) {
  try {
    await does();
  } catch {
    tell("The server does not answer, or no longer knows this address. Reload the page once it is back; no verdict is lost.");
  }
}

function on(id, does) {
  $(id).addEventListener("click", () => run(does));
}

for (const button of document.querySelectorAll("[data-verdict]")) {
  button.addEventListener("click", () => run(() => judge(button.dataset.verdict)));
}
for (const button of document.querySelectorAll("[data-look]")) {
  button.addEventListener("click", () => look(button.dataset.look));
}
on("previous", KEYS.ArrowLeft);
on("next", KEYS.ArrowRight);
on("skip", KEYS.s);
on("undo", undo);
on("around", KEYS.m);
on("tell-button", tellMe);
on("go", KEYS.g);
on("reveal-button", KEYS.r);
on("help-button", KEYS["?"]);
$("share").addEventListener("input", () => viewer.slide($("share").value / 100));
$("note").addEventListener("change", noted);
$("level").addEventListener("change", levelled);
$("stage").addEventListener("wheel", (event) => {
  event.preventDefault();
  viewer.zoomed(event.deltaY < 0 ? 1.2 : 1 / 1.2);
}, { passive: false });
$("stage").addEventListener("pointermove", (event) => {
  const mat = event.target.closest?.(".mat");
  if (mat && event.buttons === 1) viewer.pan(event.movementX / mat.clientWidth, event.movementY / mat.clientHeight);
});
addEventListener("beforeunload", (event) => {
  if (outbox.items.length && outbox.silent) event.preventDefault();
});

run(start);
