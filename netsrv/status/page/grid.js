// A table: a row is kept as long as its key, and a cell is written if its text differs.

const SORT_INTERVAL = 5000; // milliseconds: rows that move each second cannot be read

export class Grid {
  #body;
  #columns;
  #rows = new Map();
  #sorted = { column: null, descending: true };
  #places = new Map(); // of the keys, by the last sort
  #sortedAt = -Infinity;
  #onSort;

  constructor(table, columns, onSort) {
    this.#body = table.tBodies[0];
    this.#columns = columns;
    this.#onSort = onSort;
    for (const column of table.tHead ? columns : []) this.#addHeader(table.tHead.rows[0], column);
  }

  update(items, keyOf = (_, index) => index) {
    const focused = document.activeElement;
    const keyed = this.#sort(items.map((item, index) => [keyOf(item, index), item]));
    const keys = new Set();
    let next = this.#body.firstChild;
    for (const [key, item] of keyed) {
      keys.add(key);
      const row = this.#row(key);
      this.#write(row, item);
      if (row.element === next) next = next.nextSibling;
      else this.#body.insertBefore(row.element, next);
    }
    for (const [key, row] of this.#rows) {
      if (keys.has(key)) continue;
      row.element.remove();
      this.#rows.delete(key);
    }
    if (focused !== document.activeElement && focused.isConnected) focused.focus();
  }

  #addHeader(header, column) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.className = column.kind ?? "";
    if (!this.#onSort) cell.textContent = column.label;
    else {
      const button = document.createElement("button");
      button.textContent = column.label;
      button.title = column.title ?? "";
      button.addEventListener("click", () => this.#sortBy(column, header, cell));
      cell.append(button);
    }
    header.append(cell);
  }

  #sortBy(column, header, cell) {
    const textual = !column.kind?.includes("number");
    const same = this.#sorted.column === column;
    // A click sorts, the next one turns the order, the third restores that of the configuration.
    if (same && this.#sorted.descending === textual) this.#sorted = { column: null };
    else this.#sorted = { column, descending: same ? textual : !textual };
    for (const other of header.cells) other.removeAttribute("aria-sort");
    if (this.#sorted.column) cell.setAttribute("aria-sort", this.#sorted.descending ? "descending" : "ascending");
    this.#sortedAt = -Infinity;
    this.#onSort();
  }

  #sort(keyed) {
    const { column, descending } = this.#sorted;
    if (!column) return keyed;
    if (performance.now() > this.#sortedAt + SORT_INTERVAL) {
      this.#sortedAt = performance.now();
      const sign = descending ? -1 : 1;
      const value = ([, item]) => column.sort(item) ?? -1;
      const sorted = keyed.toSorted((one, other) => (value(one) < value(other) ? -sign : value(one) > value(other) ? sign : 0));
      this.#places = new Map(sorted.map(([key], place) => [key, place]));
    }
    const place = ([key]) => this.#places.get(key) ?? Infinity;
    return keyed.toSorted((one, other) => (place(one) < place(other) ? -1 : place(one) > place(other) ? 1 : 0));
  }

  #row(key) {
    let row = this.#rows.get(key);
    if (row) return row;
    const element = document.createElement("tr");
    const cells = this.#columns.map((column, index) => {
      const cell = document.createElement(index ? "td" : "th");
      if (!index) cell.scope = "row";
      const main = document.createElement(column.onClick ? "button" : "span");
      if (column.onClick) main.addEventListener("click", () => column.onClick(row.item));
      const note = document.createElement("small");
      cell.append(main, note);
      element.append(cell);
      return { cell, main, note, text: "", noted: "", kind: null };
    });
    row = { element, cells, item: null };
    this.#rows.set(key, row);
    return row;
  }

  #write(row, item) {
    row.item = item;
    for (const [index, column] of this.#columns.entries()) {
      const cell = row.cells[index];
      const [text, noted = "", tone = ""] = [column.text(item)].flat();
      const kind = `${column.kind ?? ""} ${tone}`.trim();
      if (text !== cell.text) cell.main.textContent = cell.text = text;
      if (noted !== cell.noted) cell.note.textContent = cell.noted = noted;
      const title = column.cut ? text : noted;
      if (title !== cell.cell.title) cell.cell.title = title;
      if (kind !== cell.kind) cell.cell.className = cell.kind = kind;
    }
  }
}
