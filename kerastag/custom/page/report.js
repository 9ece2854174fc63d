// Conveniences: the page shows everything without them.

const theme = globalThis.kerastagTheme;
const themeButton = document.getElementById("theme");

function showTheme() {
  themeButton.textContent = theme.isDark() ? "Light theme" : "Dark theme";
}

themeButton.addEventListener("click", () => {
  theme.toggle();
  showTheme();
});
theme.watchSystem(showTheme);
themeButton.hidden = false;
showTheme();

// One player at a time.
document.addEventListener(
  "play",
  (event) => {
    for (const player of document.querySelectorAll("audio")) if (player !== event.target) player.pause();
  },
  true,
);

/** Sort a table by a column; a second time, in the other direction. */
function sortTable(table, header, column) {
  const order = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const body = table.tBodies[0];
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;
  const read = (row) => row.cells[column].textContent;
  const rows = [...body.rows].sort((a, b) => compare(read(a), read(b)));
  body.append(...(order === "ascending" ? rows : rows.reverse()));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortTable(table, header, column));
  });
}
