// Small comforts; every page is whole without them.
//   numbers that change: elements with data-live="key" follow one SSE stream, whose event "figures" carries {"key": number or text, …}
//   copy buttons:        data-copy holds the text, data-copied the word to show afterwards
//   times:               shown in the reader's zone, with UTC kept in the title
//   modules:             an element with data-module="address" is handed to the `start` of that module
"use strict";
(() => {
  const source = document.currentScript.dataset.source;
  const RESTORE_MS = 1600; // long enough to read one word
  let stream = null;

  // As the server writes them: grouped by commas in both languages, with a true minus sign.
  const written = (value) => (typeof value === "number" ? value.toLocaleString("en-US").replace("-", "−") : String(value));

  const show = (key, text) => {
    for (const place of document.querySelectorAll(`[data-live="${CSS.escape(key)}"]`)) {
      if (place.textContent === text) continue;
      place.textContent = text;
      place.classList.remove("changed");
      void place.getBoundingClientRect(); // lets the one fade start again
      place.classList.add("changed");
    }
  };

  const listen = () => {
    const wanted = Boolean(source && document.querySelector("[data-live]"));
    if (wanted && !stream) {
      stream = new EventSource(source);
      stream.addEventListener("figures", (message) => {
        for (const [key, value] of Object.entries(JSON.parse(message.data))) show(key, written(value));
      });
    } else if (!wanted && stream) {
      stream.close();
      stream = null;
    }
  };

  const localise = () => {
    const zone = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "short" }); // the ISO order, read alike in both languages
    for (const time of document.querySelectorAll("time[data-local]")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      time.textContent = zone.format(moment);
      time.removeAttribute("data-local");
    }
  };

  const refresh = () => {
    document.documentElement.classList.add("live");
    localise();
    listen();
    for (const place of document.querySelectorAll("[data-module]")) import(place.dataset.module).then((module) => module.start(place));
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      return; // refused, or not a secure context: the text itself can still be selected
    }
    const word = button.textContent;
    if (word === button.dataset.copied) return;
    button.textContent = button.dataset.copied;
    setTimeout(() => { button.textContent = word; }, RESTORE_MS);
  });
  document.addEventListener("htmx:after:swap", (event) => {
    refresh();
    // A boosted link replaces the body: put the reader where a new page would, at the start of what is new.
    if (!document.activeElement || document.activeElement === document.body) document.getElementById("main")?.focus({ preventScroll: true });
  });
  addEventListener("pagehide", () => { stream?.close(); stream = null; });
  addEventListener("pageshow", refresh);
  refresh();
})();
