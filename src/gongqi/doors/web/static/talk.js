// One conversation with one model, by the address that applications use: `/v1/…`, with the key that is typed here.
//
// The key goes with the calls and is kept nowhere; what was said stays on the page and is gone with it. Below each answer
// stands what it cost, as the books say it: they follow a call by a second or two.
"use strict";

const BOOKS_MS = [400, 800, 1500, 3000, 5000];
const SHOWN_NUMBERS = 8; // of a vector
const started = new WeakSet();

export const start = (form) => {
  if (!started.has(form)) new Talk(form);
  started.add(form);
};

class Talk {
  constructor(form) {
    this.form = form;
    this.turns = []; // as the API takes them
    this.list = form.querySelector(".talk");
    this.words = Object.fromEntries([...document.querySelectorAll("#talk-words dt")].map((term) => [term.textContent, term.nextElementSibling.textContent]));
    this.under = null; // the call under way, to be stopped
    form.classList.add("with-script");
    form.addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    form.elements.said.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
    });
    this.button("stop").addEventListener("click", () => this.under?.abort());
    this.button("clear").addEventListener("click", () => this.clear());
    addEventListener("pagehide", () => this.under?.abort());
  }

  button(what) { return this.form.querySelector(`[data-do=${what}]`); }
  value(name) { return this.form.elements[name]?.value.trim() ?? ""; }

  clear() {
    this.under?.abort();
    this.turns = [];
    this.list.replaceChildren();
    this.button("clear").hidden = true;
  }

  asked(said) {
    const { kind, model } = this.form.dataset;
    if (kind === "embeddings") return { model, input: said };
    const asked = { model, stream: true };
    if (this.value("max_tokens")) asked.max_tokens = Number(this.value("max_tokens"));
    if (this.value("temperature")) asked.temperature = Number(this.value("temperature"));
    if (kind === "completions") return { ...asked, prompt: said };
    const system = this.value("system");
    return { ...asked, messages: [...(system ? [{ role: "system", content: system }] : []), ...this.turns, { role: "user", content: said }] };
  }

  async send() {
    const said = this.value("said");
    const key = this.value("key");
    if (!said || !key || this.under) return;
    const body = JSON.stringify(this.asked(said));
    this.turn("you").querySelector(".talk-text").textContent = said;
    this.form.elements.said.value = "";
    const turn = this.turn("model");
    this.busy(new AbortController());
    const began = performance.now();
    try {
      const headers = { "content-type": "application/json", authorization: `Bearer ${key}`, "accept-language": document.documentElement.lang };
      const answer = await fetch(this.form.dataset.path, { method: "POST", headers, body, signal: this.under.signal, credentials: "omit" });
      if (!answer.ok) { this.wrong(turn, await answer.json().then((told) => `${told.error.message} (${told.error.code})`, () => `HTTP ${answer.status}`)); return; }
      const text = await (this.form.dataset.kind === "embeddings" ? this.vector(answer, turn) : this.stream(answer, turn));
      this.turns.push({ role: "user", content: said }, { role: "assistant", content: text });
      this.note(turn, `${Math.round(performance.now() - began)} ms`);
      this.explain(turn, answer.headers.get("x-request-id"), key);
    } catch (error) {
      this.wrong(turn, this.words[error.name === "AbortError" ? "stopped" : "lost"]);
    } finally {
      this.busy(null);
    }
  }

  // ---- what comes back

  async stream(answer, turn) {
    const place = turn.querySelector(".talk-text");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return place.textContent;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ") || line.startsWith("data: [DONE]")) continue;
        const event = JSON.parse(line.slice(6));
        if (event.error) { this.wrong(turn, `${event.error.message} (${event.error.code})`); continue; }
        const choice = event.choices?.[0];
        place.append(choice?.delta?.content ?? choice?.text ?? "");
      }
    }
  }

  async vector(answer, turn) {
    const { data } = await answer.json();
    const numbers = data[0].embedding;
    const first = numbers.slice(0, SHOWN_NUMBERS).map((each) => each.toFixed(4)).join(", ");
    turn.querySelector(".talk-text").textContent = `${this.words.numbers.replace("{count}", numbers.length)} [${first}, …]`;
    return "";
  }

  /** What the call cost, once it is in the books. */
  async explain(turn, id, key) {
    for (const wait of BOOKS_MS) {
      await new Promise((resolve) => { setTimeout(resolve, wait); });
      const answer = await fetch(`/v1/usage?id=${encodeURIComponent(id)}`, { headers: { authorization: `Bearer ${key}`, "accept-language": document.documentElement.lang }, credentials: "omit" }).catch(() => null);
      const record = answer?.ok ? (await answer.json()).data[0] : null;
      if (!record) continue;
      this.note(turn, this.words.tokens.replace("{input}", record.input_tokens).replace("{output}", record.output_tokens));
      this.note(turn, `${this.words.cost} ${record.cost}`);
      const link = document.createElement("a");
      link.href = record.evidence_url;
      link.textContent = this.words.evidence;
      this.note(turn, link);
      return;
    }
    this.note(turn, this.words.soon);
  }

  // ---- the page

  turn(who) {
    const item = document.createElement("li");
    item.className = who === "you" ? "talk-you" : "talk-model";
    for (const [kind, text] of [["talk-who small muted", this.words[who]], ["talk-text", ""], ["row marks small muted", ""]]) {
      const line = document.createElement("p");
      line.className = kind;
      line.textContent = text;
      item.append(line);
    }
    this.list.append(item);
    item.scrollIntoView({ block: "nearest" });
    return item;
  }

  note(turn, what) {
    const mark = document.createElement("span");
    mark.append(what);
    turn.lastElementChild.append(mark);
  }

  wrong(turn, text) {
    const line = document.createElement("p");
    line.className = "wrong";
    line.textContent = text;
    turn.lastElementChild.before(line);
  }

  busy(controller) {
    this.under = controller;
    this.list.setAttribute("aria-busy", String(Boolean(controller)));
    this.form.querySelector("[type=submit]").disabled = Boolean(controller);
    this.button("stop").hidden = !controller;
    this.button("clear").hidden = !this.list.children.length;
  }
}
