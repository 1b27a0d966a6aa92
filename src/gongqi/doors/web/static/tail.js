// The latest calls, followed: rows of an event stream, newest first, as many as are shown at once.
"use strict";

const MAX_ROWS = 100;
const followed = new WeakSet();

export const start = (place) => {
  if (followed.has(place)) return;
  followed.add(place);
  const body = place.querySelector("tbody");
  const columns = [...place.querySelectorAll("thead th")];
  const source = new EventSource(place.dataset.source);
  const close = () => source.close();

  const row = (cells) => {
    const line = document.createElement("tr");
    line.setAttribute("role", "row");
    cells.forEach((text, at) => {
      const cell = line.insertCell();
      cell.setAttribute("role", "cell");
      cell.dataset.label = columns[at].textContent;
      cell.className = columns[at].className;
      cell.appendChild(document.createElement("span")).textContent = text;
    });
    return line;
  };

  source.addEventListener("calls", (message) => {
    if (!place.isConnected) return close(); // the reader has gone on to another page
    const { is_whole, rows } = JSON.parse(message.data);
    if (is_whole) body.replaceChildren(...rows.map(row));
    else body.prepend(...rows.map(row));
    while (body.rows.length > MAX_ROWS) body.lastElementChild.remove();
    place.querySelector("[data-none]").hidden = body.rows.length > 0;
  });
  addEventListener("pagehide", close);
};
