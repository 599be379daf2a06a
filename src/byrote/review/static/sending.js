// Verdicts on their way: kept until the server has them on its disk, sent one by one, again where it does not answer.

const PLACE = "byrote unsent " + location.pathname;
const SHORTEST = 250;
const LONGEST = 4000;

export class Outbox {
  // `changed` is called with {unsent, silent}; `refused` with an item and the server's words.
  constructor(changed, refused) {
    this.changed = changed;
    this.refused = refused;
    this.items = restored();
    this.silent = false;
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
      if (answer === null) {
        this.silent = true;
        this.report();
        await new Promise((done) => setTimeout(done, pause));
        pause = Math.min(2 * pause, LONGEST);
        continue;
      }
      pause = SHORTEST;
      this.silent = false;
      this.items.shift();
      this.keep();
      if (answer !== "") this.refused(item, answer);
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

// Returns "" where the verdict is stored, words where it is refused for good, null where it has to be sent again.
async function posted(item) {
  try {
    const answer = await fetch("api/verdicts", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(item),
    });
    const told = await answer.json();
    if (answer.ok) return told.stored === true ? "" : null;
    return [400, 409, 413].includes(answer.status) ? String(told.error) : null;
  } catch {
    return null;
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
