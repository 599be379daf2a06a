// Verdicts on their way: kept until the server has them on its disk, sent one by one, again where it does not answer.

const PLACE = "byrote unsent " + location.pathname;
const SHORTEST = 250;
const LONGEST = 4000;

export class Outbox {
  // `changed` is called with {unsent, silent}, `silent` being why nothing goes on; `refused` with an item and words.
  constructor(changed, refused) {
    this.changed = changed;
    this.refused = refused;
    this.items = restored();
    this.silent = "";
    this.sending = null;
    this.report();
    if (this.items.length) this.flush();
  }

  add(item) {
    this.items.push({ ...item, key: key() });
    this.keep();
    this.flush();
  }

  // Resolves once everything that waits now was sent.
  flush() {
    this.sending ??= this.send().finally(() => { this.sending = null; });
    return this.sending;
  }

  async send() {
    let pause = SHORTEST;
    while (this.items.length) {
      const [item] = this.items;
      const answer = await posted(item);
      if (answer.again) {
        this.silent = answer.again;
        this.report();
        await new Promise((done) => setTimeout(done, pause));
        pause = Math.min(2 * pause, LONGEST);
        continue;
      }
      pause = SHORTEST;
      this.silent = "";
      this.items.shift();
      this.keep();
      if (answer.refused) this.refused(item, answer.refused);
    }
  }

  keep() {
    sessionStorage.setItem(PLACE, JSON.stringify(this.items));
    this.report();
  }

  report() {
    this.changed({ unsent: this.items.length, silent: this.silent });
  }
}

const SILENT = "The server does not answer.";
const FOR_GOOD = { 404: "this pair or address is no longer known" };
const NOT_FROM_HERE = {
  403: "The server refuses what this address sends (403).",
  421: "The server is not known by this address (421).",
};

// Returns {} where the verdict is stored, {refused} where it never will be, {again} where it has to be sent again: why.
async function posted(item) {
  try {
    const answer = await fetch("api/verdicts", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(item),
    });
    if (NOT_FROM_HERE[answer.status]) return { again: NOT_FROM_HERE[answer.status] };
    if (FOR_GOOD[answer.status]) return { refused: FOR_GOOD[answer.status] };
    const told = await answer.json();
    if (answer.ok) return told.stored === true ? {} : { again: SILENT };
    return [400, 409, 413].includes(answer.status) ? { refused: String(told.error) } : { again: SILENT };
  } catch {
    return { again: SILENT };
  }
}

function restored() {
  try {
    const items = JSON.parse(sessionStorage.getItem(PLACE) ?? "[]");
    return Array.isArray(items) ? items : [];
  } catch {
    return [];
  }
}

function key() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
