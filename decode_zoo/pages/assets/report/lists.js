// The list of genes, and their predictions as a heat map.

function geneList({ prediction }, one) {
  const value = (row, output) =>
    data.gene[row] < 0 ? null : prediction[data.gene[row] * outputs.length + output.i];
  const highest = (row) =>
    data.gene[row] < 0 || !changes.length
      ? null
      : changes.reduce((best, output) => (value(row, output) > value(row, best) ? output : best));
  const columns = [
    { title: "Row", number: true, rank: true, key: (row) => row + 1 },
    { title: "Asked for", free: true, key: (row) => data.queries[row] },
    {
      title: data.level === "gene" ? "Gene" : "Transcript",
      key: (row) =>
        data.gene[row] < 0 && data.statuses[row] !== "no_features" ? "" : data.ids[row],
    },
    { title: "Symbol", key: (row) => data.symbols[row] },
    {
      title: "Status",
      free: true,
      key: (row) => data.statuses[row],
      node: (row) => {
        const [status, original] = data.statuses[row].split(":");
        const badge = make("span", { className: `status ${status}` }, readable(status));
        return original ? make("span", {}, badge, ` ${original}`) : badge;
      },
    },
    ...others.map((output) => ({
      title: output.title,
      unit: output.unit,
      number: true,
      key: (row) => value(row, output),
      text: (row) => (data.gene[row] < 0 ? "" : signed(value(row, output), 2)),
    })),
  ];
  if (changes.length) {
    columns.push(
      {
        title: changes.length > 1 ? "Highest change" : "Predicted change",
        unit: changes[0].unit,
        number: true,
        key: (row) => (data.gene[row] < 0 ? null : value(row, highest(row))),
        text: (row) => (data.gene[row] < 0 ? "" : signed(value(row, highest(row)), 2)),
      },
      {
        title: "Where",
        key: (row) => highest(row)?.name ?? "",
        text: (row) => highest(row)?.title ?? "",
      },
    );
  }
  columns.push({
    title: "",
    plain: true,
    node: (row) => {
      if (data.gene[row] < 0 || data.gene[row] >= data.detail) return "";
      const button = make(
        "button",
        { type: "button", onclick: () => one.show(data.gene[row], highest(row)?.i ?? 0, true) },
        "Explain",
      );
      button.setAttribute("aria-label", `Explain ${genes[data.gene[row]].name}`);
      return button;
    },
  });
  new DataTable(document.getElementById("gene-table"), {
    label: `${data.level}s`,
    noun: "row",
    file: () => `${slug}.${data.level}s.tsv`,
    columns,
    rows: data.queries.map((_, row) => row),
    facet: { all: "All statuses", value: (row) => data.statuses[row].split(":")[0] },
  });
}

function predictions({ prediction, geneOrder }, one) {
  const host = document.getElementById("prediction-map");
  if (!genes.length) {
    host.append(
      make("p", { className: "empty" }, `No ${data.level} of the list could be predicted.`),
    );
    return;
  }
  const value = (gene, output) => prediction[gene * outputs.length + output];
  const all = (list) => list.flatMap((output) => genes.map((gene) => value(gene.i, output.i)));
  const clustered = data.outputOrder.filter((i) => outputs[i].kind === "fold_change");
  // Another unit, another scale, apart from the rest; first, where it is not scrolled away.
  const groups = [];
  for (const unit of new Set(others.map((output) => output.unit))) {
    const own = others.filter((output) => output.unit === unit);
    groups.push({
      columns: own.map((output) => output.i),
      scale: Scale.sequential(all(own), unit),
      title: own.map((output) => output.title).join(", "),
    });
  }
  const main = {
    columns: clustered,
    scale: Scale.diverging(all(changes), changes[0]?.unit),
    title: "predicted change",
  };
  if (changes.length) groups.push(main);
  const holder = make("div");
  const map = new HeatMap(holder, {
    label: "Predictions",
    rows: genes.map((gene) => gene.name),
    columns: outputs.map((output) => output.title),
    groups,
    value,
    tell: (gene, output) => {
      const { title, unit } = outputs[output];
      return `${genes[gene].full} · ${title}: ${signed(value(gene, output))} ${unit}`;
    },
    pick: (gene, output) => {
      if (gene < data.detail) one.show(gene, output, true);
      else
        map.say(
          `${genes[gene].name} is not among the first ${data.detail}, which are shown one by one.`,
        );
    },
    pickRow: (gene) => orderColumns(gene),
    pickColumn: (output) => orderRows(String(output)),
  });
  const orderRows = (by) => {
    rowChoice.select.value = by;
    const names = new Intl.Collator("en", { numeric: true });
    const orders = {
      clustered: () => [...geneOrder],
      given: () => genes.map((gene) => gene.i),
      name: () =>
        genes.map((gene) => gene.i).sort((a, b) => names.compare(genes[a].name, genes[b].name)),
    };
    const order =
      orders[by]?.() ??
      genes.map((gene) => gene.i).sort((a, b) => value(b, Number(by)) - value(a, Number(by)));
    map.set({ order, at: null });
    map.scroll.scrollTop = 0;
  };
  const orderColumns = (gene) => {
    columnChoice.select.value = gene === null ? columnChoice.select.value : "gene";
    const kind = columnChoice.select.value;
    rowOption.textContent =
      gene === null ? `a ${data.level}’s values (click its name)` : `values of ${genes[gene].name}`;
    main.columns = {
      clustered: () => clustered,
      model: () => changes.map((output) => output.i),
      gene: () =>
        gene === null
          ? main.columns
          : [...clustered].sort((a, b) => value(gene, b) - value(gene, a)),
    }[kind]();
    map.set({ at: null });
  };
  const rowChoice = outputChoice(
    `Order of ${data.level}s`,
    () => orderRows(rowChoice.select.value),
    [
      ["clustered", "similar ones together"],
      ["given", "as in the list"],
      ["name", "by name"],
    ],
  );
  const columnChoice = choice(
    "Order of outputs",
    [
      ["clustered", "similar ones together"],
      ["model", "as in the model"],
      ["gene", ""],
    ],
    () => orderColumns(null),
  );
  const rowOption = columnChoice.select.querySelector("[value=gene]");
  const height = make("input", {
    type: "range",
    min: 2,
    max: 28,
    value: map.rowHeight,
    oninput: () => map.set({ rowHeight: Number(height.value) }),
  });
  const zoom = make("input", {
    type: "range",
    min: 1,
    max: 3,
    step: 0.1,
    value: 1,
    oninput: () => map.set({ zoom: Number(zoom.value) }),
  });
  const find = make("input", {
    type: "search",
    placeholder: `Find a ${data.level}`,
    oninput: () => {
      const wanted = find.value.trim().toLowerCase();
      const r = wanted
        ? map.order.findIndex((gene) => genes[gene].full.toLowerCase().includes(wanted))
        : -1;
      if (r >= 0) map.go(r, map.at?.i ?? 0);
      else if (wanted) map.say("Nothing found.");
    },
  });
  find.setAttribute("aria-label", `Find a ${data.level} in the heat map`);
  const save = saveButton(
    () => `${slug}.predictions.tsv`,
    () => [
      [`${data.level}_id`, "symbol", "status", ...outputs.map((output) => output.name)],
      ...data.queries.map((_, row) => [
        data.ids[row],
        data.symbols[row],
        data.statuses[row],
        ...outputs.map((output) =>
          data.gene[row] < 0 ? "" : exact(value(data.gene[row], output.i)),
        ),
      ]),
    ],
  );
  save.classList.add("push");
  const controls = make(
    "div",
    { className: "controls" },
    find,
    rowChoice.node,
    columnChoice.node,
    save,
  );
  const sizes = make(
    "div",
    { className: "controls push" },
    make("label", {}, "Row height", height),
    make("label", {}, "Column width", zoom),
  );
  const legends = groups.map((group) => group.scale.legend(`${group.title}, ${group.scale.unit}`));
  host.append(controls, holder, make("div", { className: "legends" }, ...legends, sizes));
  orderRows("clustered");
  orderColumns(null);
}
