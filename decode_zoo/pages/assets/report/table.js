// A table that can be sorted, searched, narrowed to one kind, paged through and saved.
//
// columns: { title, unit, number, free: may be cut into lines,
//            key(row): what is sorted and saved, text(row): what is shown,
//            node(row): shown instead of text, plain: neither sorted nor saved }
// facet:   { all, value(row) }: a choice that narrows the rows
class DataTable {
  constructor(host, { label, noun, file, columns, facet, rows = [], sort = null, size = 15 }) {
    Object.assign(this, { label, noun, columns, facet, rows, sort, size, page: 0, picked: "" });
    this.query = make("input", {
      type: "search",
      placeholder: "Search",
      oninput: () => this.turn(0),
    });
    this.query.setAttribute("aria-label", `Search ${label}`);
    this.status = make("span", { role: "status" });
    this.back = make("button", { type: "button", onclick: () => this.turn(this.page - 1) }, "‹");
    this.next = make("button", { type: "button", onclick: () => this.turn(this.page + 1) }, "›");
    this.back.setAttribute("aria-label", "Previous page");
    this.next.setAttribute("aria-label", "Next page");
    const controls = make("div", { className: "controls" }, this.query);
    if (facet) {
      this.kinds = choice("", [], () => {
        this.picked = this.kinds.select.value;
        this.turn(0);
      });
      this.kinds.select.setAttribute("aria-label", facet.all);
      controls.append(this.kinds.node);
    }
    this.save = saveButton(file, () => this.toSave());
    this.save.classList.add("push");
    controls.append(this.status, this.back, this.next, this.save);
    this.head = make("thead");
    this.body = make("tbody");
    this.table = make("table", {}, this.head, this.body);
    this.table.setAttribute("aria-label", label);
    host.classList.add("table");
    host.replaceChildren(controls, make("div", { className: "wide" }, this.table));
    this.setRows(rows);
  }

  setRows(rows, columns = this.columns) {
    this.rows = rows;
    this.columns = columns;
    if (this.facet) {
      const kinds = [...new Set(rows.map(this.facet.value))];
      if (!kinds.includes(this.picked)) this.picked = "";
      const options = kinds.map((kind) => make("option", { value: kind }, readable(kind)));
      this.kinds.select.replaceChildren(make("option", { value: "" }, this.facet.all), ...options);
      this.kinds.select.value = this.picked;
      this.kinds.node.hidden = kinds.length < 2;
    }
    this.turn(0);
  }

  chosen() {
    const wanted = this.query.value.trim().toLowerCase();
    const searched = this.columns.filter((column) => !column.plain && !column.number);
    const rows = this.rows.filter(
      (row) =>
        (!this.picked || this.facet.value(row) === this.picked) &&
        (!wanted ||
          searched.some((column) => String(column.key(row)).toLowerCase().includes(wanted))),
    );
    if (!this.sort) return rows;
    const { key, number } = this.columns[this.sort.column];
    const turned = this.sort.down ? -1 : 1;
    const collator = new Intl.Collator("en", { numeric: true });
    const compare = number ? (a, b) => a - b : (a, b) => collator.compare(a, b);
    const missing = (value) => value === null || value === "";
    return rows
      .map((row) => [key(row), row])
      .sort(([a], [b]) => missing(a) - missing(b) || turned * (missing(a) ? 0 : compare(a, b)))
      .map(([, row]) => row);
  }

  toSave() {
    const columns = this.columns.filter((column) => !column.plain);
    const cell = (value, column) => (column.number && value !== null ? exact(value) : value);
    return [
      columns.map(({ title, unit }) => (unit ? `${title} (${unit})` : title)),
      ...this.chosen().map((row) => columns.map((column) => cell(column.key(row), column))),
    ];
  }

  turn(page) {
    const rows = this.chosen();
    const pages = Math.max(1, Math.ceil(rows.length / this.size));
    this.page = clamp(page, 0, pages - 1);
    const start = this.page * this.size;
    const shown = rows.slice(start, start + this.size);
    const total = this.rows.length;
    const of =
      rows.length === total
        ? count(total, this.noun)
        : `${rows.length} of ${count(total, this.noun)}`;
    this.status.textContent = pages > 1 ? `${start + 1}–${start + shown.length} of ${of}` : of;
    this.back.disabled = this.page === 0;
    this.next.disabled = this.page === pages - 1;
    this.back.hidden = this.next.hidden = pages === 1;
    this.save.disabled = !total;
    this.head.replaceChildren(
      make("tr", {}, ...this.columns.map((column, i) => this.heading(column, i))),
    );
    const empty = make(
      "td",
      { className: "empty", colSpan: this.columns.length },
      total ? "Nothing found." : "Nothing to show.",
    );
    this.body.replaceChildren(
      ...(shown.length ? shown.map((row) => this.line(row)) : [make("tr", {}, empty)]),
    );
  }

  heading(column, i) {
    const cell = make("th", { scope: "col", className: column.number ? "number" : "" });
    if (column.plain) return cell;
    const own = this.sort?.column === i;
    const arrow = this.sort?.down ? "▼" : "▲";
    const sort = () => {
      // Numbers are wanted largest first.
      this.sort = {
        column: i,
        down: own ? !this.sort.down : Boolean(column.number && !column.rank),
      };
      this.turn(0);
      this.head.querySelector("[aria-sort] button").focus();
    };
    const mark = own ? [make("span", { className: "arrow" }, arrow)] : [];
    const title = column.number ? [...mark, column.title] : [column.title, ...mark];
    const button = make("button", { type: "button", onclick: sort }, ...title);
    if (column.unit) button.append(make("small", {}, column.unit));
    cell.append(button);
    if (own) cell.setAttribute("aria-sort", this.sort.down ? "descending" : "ascending");
    return cell;
  }

  line(row) {
    const cells = this.columns.map((column) => {
      const content = column.node ? column.node(row) : (column.text ?? column.key)(row);
      return make(
        "td",
        { className: column.number ? "number" : column.free ? "free" : "" },
        content ?? "",
      );
    });
    return make("tr", {}, ...cells);
  }
}
