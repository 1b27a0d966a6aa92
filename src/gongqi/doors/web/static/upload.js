// Files on their way: chosen, hashed in a worker, brought in parts by tus, and committed by the form as one revision.
//
// What is known of a file (its digest, the address of its upload) is kept in localStorage, so after a reload or in
// another tab it goes on where it stands, once the same file has been chosen again: a page cannot open files by itself.
// A basket outlives its form, so files go on coming while other pages of the console are read.

const PART_BYTES = 8 * 1024 * 1024; // what a cut costs at most, and what proxies let through in one request
const AT_ONCE = 3; // the server takes 16 of one organisation; others want to bring some too
const RETRIES_MS = [0, 1000, 2000, 4000, 8000, ...Array(30).fill(10000)]; // five minutes without a byte, then by hand
const SHOWN_ROWS = 200;
const KEPT_DAYS = 7; // as long as the server keeps what nobody commits
const baskets = new Map();

export const start = (form) => {
  const known = baskets.get(form.dataset.asset) ?? new Basket(form.dataset.asset);
  baskets.set(form.dataset.asset, known);
  known.show(form);
};

const size = (bytes) => {
  const units = ["B", "kB", "MB", "GB"];
  let step = 0;
  while (bytes >= 1000 && step < units.length - 1) { bytes /= 1000; step += 1; }
  return `${bytes.toFixed(step && bytes < 100 ? 1 : 0)} ${units[step]}`;
};

class Item {
  constructor(kept) { Object.assign(this, { state: "missing", sent: 0, sha256: "", url: "", why: "", file: null }, kept); }
  get kept() {
    const { path, size, modified, sha256, url, sent, component, license, state } = this;
    return { path, size, modified, sha256, url, sent, component, license, state: state === "done" || state === "here" ? state : "missing" };
  }
  get isIn() { return this.state === "done" || this.state === "here"; }
  get isUnderWay() { return ["waiting", "hashing", "sending", "ending", "cut"].includes(this.state); }
}

class Basket {
  constructor(asset) {
    this.place = `gongqi.upload.${asset}`;
    this.items = this.recalled();
    this.worker = null;
    this.hashing = null;
    this.form = null;
    this.isAskedEarly = false; // the button was pressed before all was in
    addEventListener("beforeunload", (event) => { if (this.items.some((item) => item.isUnderWay)) event.preventDefault(); });
    addEventListener("online", () => this.items.filter((item) => item.state === "cut").forEach((item) => this.again(item)));
  }

  // ---- what is kept -------------------------------------------------------------------------------

  recalled() {
    try {
      const { at, items } = JSON.parse(localStorage.getItem(this.place) ?? "{}");
      return Date.now() - at < KEPT_DAYS * 864e5 ? items.map((kept) => new Item(kept)) : [];
    } catch {
      return []; // not ours, or no storage: then nothing outlives the page
    }
  }

  keep() {
    try {
      if (this.items.length) localStorage.setItem(this.place, JSON.stringify({ at: Date.now(), items: this.items.map((item) => item.kept) }));
      else localStorage.removeItem(this.place);
    } catch { /* full or forbidden: the uploads themselves do not need it */ }
  }

  // ---- choosing -----------------------------------------------------------------------------------

  add(file, path) {
    const known = this.items.find((item) => item.path === path);
    const isSame = known && known.size === file.size && known.modified === file.lastModified;
    if (isSame && (known.isIn || known.isUnderWay)) return;
    if (known && !isSame) this.remove(known);
    const item = isSame ? known : new Item({ path, size: file.size, modified: file.lastModified, ...this.guessed(path) });
    if (!isSame) this.items.push(item);
    item.file = file;
    this.again(item);
  }

  guessed(path) {
    const { likely, known } = this.told;
    const [component, license] = known[path] ?? ["", ""];
    const name = path.split("/").pop().toLowerCase();
    return { component: component || likely[name] || likely[`.${name.split(".").pop()}`] || "", license };
  }

  get isAllIn() { return this.items.length > 0 && this.items.every((item) => item.isIn); }

  again(item) {
    this.isAskedEarly = false;
    item.why = "";
    item.state = "waiting";
    this.go();
  }

  remove(item) {
    this.isAskedEarly = false;
    item.upload?.abort();
    this.items = this.items.filter((each) => each !== item);
    item.row?.remove();
    this.keep();
    this.go();
  }

  // ---- the way ------------------------------------------------------------------------------------

  go() {
    const waiting = this.items.filter((item) => item.state === "waiting");
    const next = waiting.find((item) => !item.sha256);
    if (next && !this.hashing) this.hash(next);
    const busy = this.items.filter((item) => ["sending", "ending"].includes(item.state)).length;
    waiting.filter((item) => item.sha256).slice(0, Math.max(0, AT_ONCE - busy)).forEach((item) => this.send(item));
    this.draw();
  }

  hash(item) {
    this.worker ??= this.hired();
    this.hashing = item;
    item.state = "hashing";
    item.hashed = 0;
    this.worker.postMessage({ key: item.path, file: item.file });
  }

  hired() {
    const worker = new Worker(new URL("./hashing.js", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data }) => {
      const item = this.hashing;
      if (data.done !== undefined) {
        item.hashed = data.done;
        this.drawSoon();
        return;
      }
      this.hashing = null;
      if (this.items.includes(item)) {
        if (data.digest) Object.assign(item, { sha256: data.digest, state: "waiting" });
        else Object.assign(item, { state: "refused", why: data.failure });
      }
      this.keep();
      this.go();
    });
    return worker;
  }

  async send(item) {
    item.state = "sending";
    if (!item.url && (await this.isHere(item))) {
      item.state = "here";
      this.keep();
      this.go();
      return;
    }
    await import("./vendor/tus.min.js");
    item.upload = new window.tus.Upload(item.file, {
      endpoint: "/api/v1/hub/upload",
      uploadUrl: item.url || null,
      chunkSize: PART_BYTES,
      uploadDataDuringCreation: true,
      storeFingerprintForResuming: false,
      retryDelays: RETRIES_MS,
      headers: { "X-Form-Token": this.told.csrf },
      metadata: { org: this.told.org, path: item.path, sha256: item.sha256 },
      onUploadUrlAvailable: () => { item.url = item.upload.url; this.keep(); },
      onChunkComplete: (_part, accepted) => { item.sent = accepted; this.keep(); },
      onProgress: (sent) => {
        item.sent = sent;
        item.state = sent === item.size ? "ending" : "sending";
        this.drawSoon();
      },
      onShouldRetry: (error) => {
        const status = error.originalResponse?.getStatus() ?? 0;
        const mayRetry = status < 400 || status === 409 || status === 423 || status === 408 || status === 429 || status >= 500;
        if (mayRetry && item.state !== "cut") { item.state = "cut"; this.draw(); }
        return mayRetry;
      },
      onSuccess: () => {
        Object.assign(item, { state: "done", sent: item.size, url: "" });
        this.keep();
        this.go();
      },
      onError: (error) => {
        item.state = error.originalResponse ? "refused" : "cut";
        item.why = this.worded(error);
        if (item.state === "refused") item.url = "";
        this.keep();
        this.go();
      },
    });
    item.upload.start();
  }

  async isHere(item) {
    const query = new URLSearchParams({ org: this.told.org, path: item.path });
    const answer = await fetch(`/api/v1/hub/blob/${item.sha256}?${query}`).catch(() => null);
    return Boolean(answer?.ok && (await answer.json()).held);
  }

  worded(error) {
    try {
      const problem = JSON.parse(error.originalResponse.getBody());
      return `${problem.detail} ${problem.remedy} (${problem.code})`;
    } catch {
      return error.originalResponse ? `HTTP ${error.originalResponse.getStatus()}` : "";
    }
  }

  // ---- the page -----------------------------------------------------------------------------------

  show(form) {
    if (this.form === form) return;
    this.form = form;
    this.items.forEach((item) => { item.row = null; });
    const { likely, known, org } = form.dataset;
    this.told = { likely: JSON.parse(likely), known: JSON.parse(known), org, csrf: form.elements.csrf.value };
    this.words = Object.fromEntries([...document.querySelectorAll("#upload-words dt")].map((term) => [term.textContent, term.nextElementSibling.textContent]));
    form.classList.add("with-script");
    form.querySelector("#field-files").removeAttribute("name"); // they come by another way
    for (const input of form.querySelectorAll("input[type=file]")) {
      input.addEventListener("change", () => {
        for (const file of input.files) this.add(file, this.pathOf(file.webkitRelativePath || file.name));
        input.value = "";
      });
    }
    const drop = form.querySelector(".drop");
    drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      for (const entry of [...event.dataTransfer.items].map((each) => each.webkitGetAsEntry?.()).filter(Boolean)) this.walk(entry, "");
    });
    form.querySelector(".items").addEventListener("input", ({ target }) => {
      const item = this.of(target);
      if (item && target.dataset.part) { item[target.dataset.part] = target.value; this.keep(); }
    });
    form.querySelector(".items").addEventListener("click", ({ target }) => {
      const item = this.of(target);
      if (item && target.dataset.do === "remove") { item.row = this.rowOf(target); this.remove(item); }
      if (item && target.dataset.do === "again") this.again(item);
    });
    form.addEventListener("submit", (event) => this.commit(event));
    this.go();
  }

  pathOf(relative) {
    const folder = this.form.elements.folder.value.trim().replace(/^\/+|\/+$/g, "");
    return (folder ? `${folder}/${relative}` : relative).normalize("NFC"); // as macOS does not write names
  }

  walk(entry, above) {
    if (entry.isFile) { entry.file((file) => this.add(file, this.pathOf(above + entry.name))); return; }
    const reader = entry.createReader();
    const more = () => reader.readEntries((entries) => {
      entries.forEach((each) => this.walk(each, `${above}${entry.name}/`));
      if (entries.length) more(); // a hundred at a time
    });
    more();
  }

  rowOf(element) { return element.closest(".item"); }
  of(element) { return this.items.find((item) => item.path === this.rowOf(element)?.dataset.path); }

  async commit(event) {
    if (!this.items.length) return;
    event.preventDefault();
    const form = this.form;
    this.isAskedEarly = !this.isAllIn;
    if (this.isAskedEarly) { this.draw(); return; }
    const listed = this.items.map(({ path, sha256, component, license }) => ({ path, sha256, component: component || null, license: license || null }));
    form.elements.listed.value = JSON.stringify(listed);
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      const answer = await fetch(form.action, { method: "POST", body: new FormData(form), headers: { accept: "text/html" } });
      if (answer.redirected) {
        this.items = [];
        this.keep();
        baskets.delete(form.dataset.asset);
        location.assign(answer.url);
        return;
      }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      this.refused(page.querySelector("main [role=alert]"));
    } catch {
      this.say(this.words.cut.replace("{part}", ""), true);
    } finally {
      button.disabled = false;
    }
  }

  refused(alert) {
    this.form.parentElement.querySelectorAll(":scope > [role=alert]").forEach((each) => each.remove());
    if (!alert) return;
    this.form.before(document.importNode(alert, true));
    this.form.previousElementSibling.scrollIntoView({ block: "nearest" });
  }

  say(text, isLoud = false) {
    const place = this.form.querySelector(".said");
    if (place.textContent !== text) place.textContent = text;
    place.classList.toggle("wrong", isLoud);
  }

  drawSoon() {
    this.drawing ??= setTimeout(() => { this.drawing = null; this.draw(); }, 100);
  }

  draw() {
    if (!this.form?.isConnected) return;
    const basket = this.form.querySelector(".basket");
    basket.hidden = !this.items.length;
    this.form.querySelector("#field-files").required = !this.items.length;
    const list = basket.querySelector(".items");
    this.items.slice(0, SHOWN_ROWS).forEach((item) => this.drawItem(item, list));
    const all = this.items.reduce((sum, item) => sum + item.size, 0);
    const done = this.items.reduce((sum, item) => sum + (item.isIn ? item.size : item.sent), 0);
    basket.querySelector(".total progress").value = all ? done / all : 1;
    if (this.isAskedEarly && !this.isAllIn) { this.say(this.words["not-yet"], true); return; } // stays while bytes go on
    const files = this.words.speed.replace("{done}", this.items.filter((item) => item.isIn).length).replace("{all}", this.items.length);
    this.say(this.words[this.isAllIn ? "all-done" : "total"].replace("{files}", files).replace("{done}", size(done)).replace("{all}", size(all)));
  }

  drawItem(item, list) {
    if (!item.row?.isConnected) {
      item.row = document.importNode(document.getElementById("upload-item").content, true).firstElementChild;
      item.row.dataset.path = item.path;
      item.row.querySelector("code").textContent = item.path;
      item.row.querySelector("progress").setAttribute("aria-label", item.path);
      for (const part of item.row.querySelectorAll("[data-part]")) part.value = item[part.dataset.part] ?? "";
      list.append(item.row);
    }
    const done = item.state === "hashing" ? item.hashed : item.sent;
    const bar = item.row.querySelector("progress");
    bar.value = item.isIn || !item.size ? 1 : done / item.size;
    bar.hidden = item.isIn || item.state === "refused";
    item.row.dataset.state = item.state;
    const said = this.words[item.state].replace("{part}", `${size(done)} / ${size(item.size)}`);
    item.row.querySelector(".item-state").textContent = item.isIn ? `${size(item.size)} · ${said}` : said;
    const wrong = item.row.querySelector(".item-wrong");
    wrong.textContent = item.why;
    wrong.hidden = !item.why;
    item.row.querySelector("[data-do=again]").hidden = !(item.file && ["cut", "refused"].includes(item.state));
  }
}
