// Sorts a table by the column whose heading is pressed: numbers from the greatest, texts from A, then the other way.
// What has no value stays at the end. A row is a <tbody>, so that the lines below it move along.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sortBy(table, headings, place));
  });
}

function sortBy(table, headings, place) {
  const heading = headings[place];
  const isNumber = heading.dataset.kind === "number";
  const first = isNumber ? "descending" : "ascending";
  const other = isNumber ? "ascending" : "descending";
  const direction = heading.getAttribute("aria-sort") === first ? other : first;
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = [...table.tBodies].map((body) => [body.rows[0].cells[place].dataset.value, body]);
  keyed.sort(([a], [b]) => {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * (isNumber ? a - b : a.localeCompare(b, "en", { numeric: true }));
  });
  const end = table.tFoot;
  for (const [, body] of keyed) table.insertBefore(body, end);
  for (const one of headings) one.setAttribute("aria-sort", one === heading ? direction : "none");
}

for (const state of ["beforeprint", "afterprint"]) {
  addEventListener(state, () => {
    for (const part of document.querySelectorAll("details")) {
      if (state === "beforeprint") {
        part.dataset.wasOpen = String(part.open);
        part.open = true;
      } else {
        part.open = part.dataset.wasOpen === "true";
      }
    }
  });
}
