// The data of the page: texts as JSON, numbers packed.

async function unpack(layout) {
  const packed = Uint8Array.from(atob(document.getElementById("numbers").textContent), (c) =>
    c.charCodeAt(0),
  );
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const kinds = {
    float32: Float32Array,
    uint32: Uint32Array,
    uint16: Uint16Array,
    int16: Int16Array,
  };
  return Object.fromEntries(
    Object.entries(layout).map(([name, [kind, offset, length]]) => [
      name,
      new kinds[kind](buffer, offset, length),
    ]),
  );
}

const data = JSON.parse(document.getElementById("data").textContent);
const outputs = data.outputs.map((output, i) => ({
  ...output,
  i,
  title: output.kind === "median" ? "Median expression" : readable(output.name),
}));
const changes = outputs.filter((output) => output.kind === "fold_change");
const others = outputs.filter((output) => output.kind !== "fold_change");
const classes = data.classes.map((name, i) => {
  const spare = data.classes.filter((other) => !(other in CLASS_COLOURS)).indexOf(name);
  return {
    name,
    i,
    colour: CLASS_COLOURS[name] ?? OTHER_COLOURS[spare % OTHER_COLOURS.length],
  };
});
const regulators = data.regulators.map((name, i) => ({
  name,
  i,
  of: classes[data.regulatorClass[i]],
}));
// Genes that are predicted, each once: the first row that means each of them.
const genes = [];
const bearers = new Map(); // of each symbol; transcripts of a gene share one
for (const id of new Set(data.ids)) {
  const symbol = data.symbols[data.ids.indexOf(id)];
  bearers.set(symbol, 1 + (bearers.get(symbol) ?? 0));
}
data.gene.forEach((gene, row) => {
  if (gene >= 0 && !genes[gene]) {
    const [id, symbol] = [data.ids[row], data.symbols[row]];
    genes[gene] = {
      i: gene,
      id,
      symbol,
      name: symbol && bearers.get(symbol) === 1 ? symbol : id,
      full: symbol ? `${symbol} (${id})` : id,
      rnaLength: data.rnaLengths[gene],
    };
  }
});
const NO_REGULATOR = 65535;
const slug = data.model;

function classMark(of) {
  const dot = make("span", { className: "dot" });
  dot.style.background = of.colour;
  const cell = make("span", {}, dot, of.name);
  return cell;
}

// Outputs in a choice: fold changes, then what has another unit.
function outputChoice(label, onchange, first = []) {
  const pairs = (list) => list.map((output) => [String(output.i), output.title]);
  const groups =
    others.length && changes.length
      ? [
          ["log2 fold change", changes],
          ["other units", others],
        ].map(([name, list]) => [name, pairs(list)])
      : [["outputs", outputs]].map(([name, list]) => [name, pairs(list)]);
  return choice(label, first, onchange, groups);
}

// Makes a function that reads what is stored of a gene and output.
function reader({
  prediction,
  classSums,
  top,
  steps,
  topScores,
  placeCounts,
  places,
  placeScores,
  profileBins,
  profiles,
}) {
  const n = outputs.length;
  const running = (lengths) => {
    const starts = new Uint32Array(lengths.length + 1);
    for (let i = 0; i < lengths.length; i++) starts[i + 1] = starts[i] + lengths[i];
    return starts;
  };
  const placeStarts = running(placeCounts);
  const profileStarts = running(
    genes.slice(0, data.detail).map((gene, g) => (profileBins[2 * g] + profileBins[2 * g + 1]) * n),
  );
  return (g, o) => {
    const step = steps[g * n + o];
    const found = [];
    for (let rank = 0; rank < data.perOutput; rank++) {
      const k = (g * n + o) * data.perOutput + rank;
      if (top[k] === NO_REGULATOR) break;
      const own = [];
      if (data.positions) {
        for (let j = placeStarts[k]; j < placeStarts[k + 1]; j++) {
          own.push({
            onRna: places[j] % 2 === 1,
            bin: places[j] >> 1,
            score: placeScores[j] * step,
          });
        }
      }
      found.push({
        ...regulators[top[k]],
        rank: rank + 1,
        score: topScores[k] * step,
        places: own,
      });
    }
    const [promoter, rna] = data.positions ? [profileBins[2 * g], profileBins[2 * g + 1]] : [0, 0];
    const from = profileStarts[g] + o * (promoter + rna);
    const whole = Array.from(
      profiles.subarray(from, from + promoter + rna),
      (score) => score * step,
    );
    const profile = [whole.slice(0, promoter), whole.slice(promoter)];
    return {
      top: found,
      profile,
      prediction: prediction[g * n + o],
      sums: classes.map((of) => ({ of, value: classSums[(g * classes.length + of.i) * n + o] })),
    };
  };
}

// First and last base of a bin: from the start site, or from the RNA's 5' end.
function edges(onRna, bin, gene) {
  const start = bin * data.bin - (onRna ? 0 : data.upstream);
  return [
    start,
    onRna ? Math.min(start + data.bin, Math.max(gene.rnaLength, start + 1)) : start + data.bin,
  ];
}
